"""`python -m simcse_tf.retrieve`: what one or two models find in a corpus."""

import sys
from collections.abc import Sequence

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.encoding.arguments import add_reading_flags, reading_of
from simcse_tf.encoding.model_encoder import load_encoder
from simcse_tf.encoding.texts import load_sentences


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    models = [arguments.model]
    if arguments.compare:
        models.append(arguments.compare)
    if len(set(models)) < len(models):
        raise UserError(f"--compare: expected another model than {arguments.model}")
    if arguments.k < 1:
        raise UserError(f"--k: expected 1 or more, received {arguments.k}")
    if arguments.output:
        read = [*models, arguments.queries, arguments.corpus]
        output = output_file("--output", arguments.output, inputs=read)

    from simcse_tf.evaluation import retrieval

    queries = load_sentences(arguments.queries)
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
    parser.add_argument("--corpus", required=True, metavar="FILE")
    parser.add_argument("--k", type=int, default=3, help="sentences for each query")
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    parser.add_argument("--output", metavar="FILE", help="default: stdout")
    return parser


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
