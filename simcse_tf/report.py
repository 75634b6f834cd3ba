"""`python -m simcse_tf.report`: a run on one page, with scores, figures, examples."""

from collections.abc import Sequence

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.arguments import add_reading_flags, reading_of
from simcse_tf.evaluation.tasks import named_data
from simcse_tf.reporting.build import report

__all__ = ["main", "report"]

KINDS = ("sts", "own", "transfer")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("simcse_tf.report", description="A run's report as one HTML page.")
    parser.add_argument("--run", required=True, metavar="RUN", help="what train wrote")
    parser.add_argument(
        "--compare", metavar="RUN|MODEL", help="another run, or any model"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="PATH",
        help="as evaluate takes them; default: the run's own",
    )
    parser.add_argument(
        "--tasks",
        default="sts,own",
        help="some of sts, own (data of your own) and transfer; default: sts,own",
    )
    parser.add_argument("--queries", metavar="FILE", help="to retrieve for, one a line")
    parser.add_argument("--corpus", metavar="FILE", help="to retrieve, one a line")
    parser.add_argument(
        "--output", metavar="FILE", help="default: report.html in the run's directory"
    )
    add_reading_flags(
        parser,
        of="of a MODEL to compare with: ",
        cut="where the encoder has no more positions",
    )
    arguments = parser.parse_args(argv)
    kinds = [kind.strip().lower() for kind in arguments.tasks.split(",")]
    if not set(kinds) <= set(KINDS):
        raise UserError(
            f"--tasks: expected some of {', '.join(KINDS)}, received {arguments.tasks}"
        )
    written = report(
        arguments.run,
        arguments.compare,
        named_data(arguments.data) if arguments.data else None,
        kinds,
        arguments.queries,
        arguments.corpus,
        arguments.output,
        reading_of(arguments),
    )
    print(f"{written}: {written.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run(main)
