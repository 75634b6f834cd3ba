"""`python -m simcse_tf.evaluate`: a model's scores on the STS tasks."""

import json
from typing import Any

from simcse_tf.cli import Parser, run
from simcse_tf.errors import UserError
from simcse_tf.files import whole_file


def main() -> None:
    arguments = _parser().parse_args()

    from simcse_tf.evaluation import sts

    names = arguments.tasks.split(",")
    tasks = sts.resolve_tasks(names, arguments.split)
    for task in tasks:
        sts.load_task(arguments.data, task, arguments.split)
    scores = sts.evaluate_sts(
        _encoder(arguments), arguments.data, tasks, arguments.split
    )
    print(sts.format_table(scores))
    if arguments.json:
        _write_json(arguments.json, scores)


def _parser() -> Parser:
    from simcse_tf.pooling import POOLINGS

    parser = Parser("simcse_tf.evaluate", description="Spearman x 100 on STS tasks.")
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument("--pooling", choices=POOLINGS, help="default: the checkpoint's")
    parser.add_argument(
        "--tasks", default="sts", help="sts (all seven) or names such as STS12,SICK-R"
    )
    parser.add_argument("--data", required=True, help="directory with STS/ and SICK/")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--json", metavar="OUT", help="write the unrounded scores")
    return parser


def _encoder(arguments: Any) -> Any:
    from simcse_tf.encode import encoder
    from simcse_tf.model import SimCSE, longest_input

    model = SimCSE.from_preset(arguments.model, pooling=arguments.pooling)
    return encoder(model, longest_input(model.backbone), progress=True)


def _write_json(path: str, scores: dict[str, float]) -> None:
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"--json: cannot write {path}: {error.strerror}") from None


if __name__ == "__main__":
    run(main)
