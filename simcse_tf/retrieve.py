"""`python -m simcse_tf.retrieve`: what one or two models find in a corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.core.regular_files import shown_path
from simcse_tf.encoding.arguments import add_reading_flags, reading_of
from simcse_tf.encoding.model_encoder import load_encoder
from simcse_tf.encoding.texts import load_sentences
from simcse_tf.evaluation.text_files import words

if TYPE_CHECKING:
    from simcse_tf.evaluation.retrieval import Example


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    models = [arguments.model]
    if arguments.compare:
        models.append(arguments.compare)
    if len(set(models)) < len(models):
        raise UserError(f"--compare: expected another model than {arguments.model}")
    if arguments.k < 1:
        raise UserError(f"--k: expected 1 or more, received {arguments.k}")
    _check_corpus(arguments, models)
    if arguments.output:
        read = [*models, arguments.queries, arguments.corpus, *(arguments.index or ())]
        output = output_file("--output", arguments.output, inputs=read)

    keep_compiled()
    from simcse_tf.evaluation import retrieval

    queries = load_sentences(arguments.queries)
    if arguments.index:
        indexes = dict(zip(models, arguments.index, strict=True))
        examples = _from_indexes(indexes, queries, arguments.k, arguments.prompt)
    else:
        corpus = load_sentences(arguments.corpus)
        _report_what_is_left_out(queries, corpus)
        reading = reading_of(arguments)
        encoders = {
            model: load_encoder(model, progress=True, **reading) for model in models
        }
        examples = retrieval.examples(encoders, queries, corpus, arguments.k)
    if arguments.format == "markdown":
        text = retrieval.format_markdown(examples)
    else:
        text = retrieval.format_text(examples)
    if not arguments.output:
        print(text)
        return
    with (
        writing_output("--output", arguments.output),
        atomic_write(output) as temporary,
    ):
        temporary.write_text(text + "\n", "utf-8")


def _parser() -> Parser:
    parser = Parser(
        "simcse_tf.retrieve",
        description="The sentences of a corpus nearest to each query.",
    )
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument("--compare", metavar="MODEL", help="another one, side by side")
    add_reading_flags(parser, cut="where the encoder has no more positions")
    parser.add_argument("--queries", required=True, metavar="FILE")
    corpus = parser.add_mutually_exclusive_group(required=True)
    corpus.add_argument("--corpus", metavar="FILE")
    corpus.add_argument(
        "--index",
        nargs="+",
        metavar="DIR",
        help="the corpus as `index build` wrote it: that of MODEL and of the other",
    )
    parser.add_argument("--k", type=int, default=3, help="sentences for each query")
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    parser.add_argument("--output", metavar="FILE", help="default: stdout")
    return parser


def _check_corpus(arguments: argparse.Namespace, models: Sequence[str]) -> None:
    if not arguments.index:
        return
    if len(arguments.index) != len(models):
        raise UserError(
            f"--index: expected one index for each model, {len(models)}, received "
            f"{len(arguments.index)}"
        )
    if arguments.pooling or arguments.max_length:
        raise UserError(
            "--pooling, --max-length: expected neither beside --index, which says how "
            "its model is read"
        )


def _from_indexes(
    indexes: Mapping[str, str], queries: list[str], k: int, prompt: str | None
) -> list[Example]:
    from simcse_tf.evaluation.retrieval import Example, Hit
    from simcse_tf.indexing.index import Index
    from simcse_tf.indexing.querying import load_query_encoder, search_texts

    opened = {model: Index.open(path) for model, path in indexes.items()}
    for index in opened.values():
        if not index.manifest.has_texts:
            shown = shown_path(index.directory)
            raise UserError(f"{shown}: expected an index with texts, it has none")
    examples = [Example(query, {}) for query in queries]
    for model, index in opened.items():
        encoder = load_query_encoder(index, model, prompt)
        # One more than asked for, since the query may be among them.
        found = search_texts(index, encoder, queries, k + 1, exact=True)
        for example, hits in zip(examples, found, strict=True):
            near = [Hit(words(hit.text), hit.cosine) for hit in hits]
            others = [hit for hit in near if hit.sentence != example.query]
            example.hits[model] = others[:k]
    return examples


def _report_what_is_left_out(queries: Sequence[str], corpus: Sequence[str]) -> None:
    distinct = set(corpus)
    if len(distinct) < len(corpus):
        print(
            f"--corpus: {len(corpus)} sentences, {len(distinct)} of them different: "
            "each counts once",
            file=sys.stderr,
        )
    known = len(distinct & set(queries))
    if known:
        print(
            f"queries that stand in the corpus: {known}; a query is not its own answer",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
