"""`python -m simcse_tf.mine`: pairs to triplets, by a model's hard negatives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.data.base import kind_of
from simcse_tf.data.named import TFDS_SCHEME
from simcse_tf.data.sources import open_one
from simcse_tf.data.written import SUFFIXES, write_rows
from simcse_tf.encoding.arguments import add_reading_flags, reading_of, say_how_read
from simcse_tf.search.mining import Mined, Rule, hard_negatives
from simcse_tf.search.mining_arguments import add_rule_flags, rule_of

if TYPE_CHECKING:
    from simcse_tf.data.base import Source
    from simcse_tf.evaluation.caching import CachingEncoder
    from simcse_tf.model.simcse import SimCSE


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the pairs that the command line names with hard negatives.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["--model", "runs/sup/best", "--pairs", "in.csv", "--output", "out.jsonl"])
    ```
    """
    arguments = _parser().parse_args(argv)
    rule = rule_of(arguments)
    output = _output(arguments)
    pairs = _texts(open_one(arguments.pairs), arguments.pairs, columns=2)
    anchors, positives = zip(*pairs, strict=True)
    corpus = list(dict.fromkeys(positives))
    if arguments.corpus:
        found = _texts(open_one(arguments.corpus), arguments.corpus, columns=1)
        corpus = list(dict.fromkeys(text for (text,) in found))

    keep_compiled()
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(arguments.model, **reading_of(arguments))
    say_how_read(model, arguments.model)
    encode = _encoder(model, arguments)
    queries = encode.of_role("query")(anchors)
    documents = encode.of_role("document")([*corpus, *positives])
    mined = _mine(
        queries,
        documents[len(corpus) :],
        documents[: len(corpus)],
        _known(anchors, positives, corpus),
        rule,
    )
    with writing_output("--output", arguments.output):
        write_rows(
            output,
            (
                (anchor, positive, *(corpus[row] for row in found.rows))
                for anchor, positive, found in zip(
                    anchors, positives, mined, strict=True
                )
            ),
            rule.negatives,
        )
    print(f"{arguments.output}: {_summary(mined, rule)}")


def _parser() -> Parser:
    parser = Parser(
        "simcse_tf.mine", description="Add hard negatives to a file of pairs."
    )
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    add_reading_flags(parser)
    for side in _SIDES:
        parser.add_argument(
            f"--{side}-prompt",
            metavar="NAME",
            help=f"in place of --prompt, for {_SIDES[side]}; default: the model's "
            f"prompt {side}, if it has one",
        )
    parser.add_argument(
        "--pairs", required=True, metavar="FILE", help="anchors with positives"
    )
    parser.add_argument(
        "--corpus",
        metavar="FILE",
        help="where negatives come from, a text a line; default: the positives",
    )
    parser.add_argument("--output", required=True, metavar="FILE.jsonl")
    add_rule_flags(parser)
    return parser


_SIDES = {"query": "anchors", "document": "positives and the corpus"}


def _output(arguments: argparse.Namespace) -> Path:
    suffix = Path(arguments.output).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"--output: expected a {', '.join(SUFFIXES)} file, received "
            f"{arguments.output}"
        )
    read = [arguments.model, arguments.pairs, arguments.corpus]
    files = [name for name in read if name and not name.startswith(TFDS_SCHEME)]
    return output_file("--output", arguments.output, inputs=files)


def _texts(source: Source, name: str, columns: int) -> list[tuple[str, ...]]:
    if source.columns != columns or source.scored:
        expected = "pairs" if columns == 2 else "single texts"
        raise UserError(f"{name}: expected {expected}, received {kind_of(source)}")
    rows = source.read(range(len(source)), epoch=0)
    return [tuple(text.decode("utf-8", "replace") for text in row) for row in rows]


def _encoder(model: SimCSE, arguments: argparse.Namespace) -> CachingEncoder:
    """The model, with a prompt for each side as the flags or itself have one."""
    from simcse_tf.checkpoints.hugging_face import prompt_of
    from simcse_tf.encoding.model_encoder import ModelEncoder
    from simcse_tf.evaluation.caching import CachingEncoder

    prompts = model.prompts if arguments.prompt is None else {}
    for side in _SIDES:
        name = getattr(arguments, f"{side}_prompt")
        if name is not None:
            text = prompt_of(model.prompts, name, str(model.preset))
            prompts = {**prompts, side: text}
    return CachingEncoder(ModelEncoder(model, roles=prompts, progress=True))


def _known(
    anchors: Sequence[str], positives: Sequence[str], corpus: Sequence[str]
) -> list[set[int]]:
    """For each anchor the rows of the corpus that say what it or a positive does."""
    places = {text: row for row, text in enumerate(corpus)}
    of_anchor: dict[str, set[int]] = {}
    for anchor, positive in zip(anchors, positives, strict=True):
        known = of_anchor.setdefault(anchor, set())
        known |= {places[text] for text in (anchor, positive) if text in places}
    return [of_anchor[anchor] for anchor in anchors]


def _mine(
    anchors: np.ndarray,
    positives: np.ndarray,
    corpus: np.ndarray,
    known: Sequence[set[int]],
    rule: Rule,
) -> list[Mined]:
    from tqdm import tqdm

    with tqdm(total=len(anchors), unit="anchor", desc="mining", file=sys.stderr) as bar:
        return hard_negatives(anchors, positives, corpus, known, rule, bar.update)


def _summary(mined: Sequence[Mined], rule: Rule) -> str:
    full = sum(len(found.rows) == rule.negatives for found in mined)
    none = sum(not found.rows for found in mined)
    cosines = [cosine for found in mined for cosine in found.cosines]
    text = f"{len(mined)} rows, {full} with {rule.negatives} hard negatives, {none} "
    text += "with none"
    if cosines:
        text += f"; median cosine of a negative {np.median(cosines):.2f}"
    return text


if __name__ == "__main__":
    run(main)
