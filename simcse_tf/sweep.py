"""`python -m simcse_tf.sweep`: one training run for each setting and seed, compared."""

import itertools
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import Stopped, UserError
from simcse_tf.core.extras import require
from simcse_tf.core.json_files import read_json
from simcse_tf.training.config import Config, load_config

RESULT_FILE = "result.json"
LOG_FILE = "train.log"
_POLL_SECONDS = 0.5
_COLUMNS = ("STSBenchmark dev", "avg dev", "avg test")

Setting = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training run of a sweep.

    Attributes:
        setting: string. The name of its setting.
        seed: int.
        config: A `simcse_tf.training.config.Config`.
    """

    setting: str
    seed: int
    config: Config

    @property
    def directory(self) -> Path:
        return Path(self.config.output_dir)


def read_grid(path: str) -> list[Setting]:
    """Reads the settings that a grid file stands for.

    Args:
        path: string. A JSON object of config keys, such as `"model.dropout"`, to
            a value or a list of values: the settings are all their combinations.
            A list of such objects stands for the settings of each in turn; `{}`
            is the base config as it is.

    Returns:
        List of dictionaries from key to value, in the file's order.

    Raises:
        UserError: If the file cannot be read or is of another form, or a setting
            is there twice.
    """
    grid = read_json(path)
    objects = grid if isinstance(grid, list) else [grid]
    if not objects or not all(isinstance(each, dict) for each in objects):
        raise UserError(
            f"{path}: expected an object of config keys to lists of values, or a list "
            f"of such objects, received {json.dumps(grid)[:80]}"
        )
    settings = [setting for each in objects for setting in _combinations(each)]
    for index, setting in enumerate(settings):
        if setting in settings[:index]:
            raise UserError(f"{path}: {name_of(setting)} is there twice")
    return settings


def _combinations(grid: dict[str, Any]) -> Iterator[Setting]:
    choices = [v if isinstance(v, list) else [v] for v in grid.values()]
    for values in itertools.product(*choices):
        yield dict(zip(grid, values, strict=True))


def name_of(setting: Setting) -> str:
    """A setting's name in the table: its keys, without their sections, and values."""
    texts = {
        key.rpartition(".")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in setting.items()
    }
    return ", ".join(f"{key}={text}" for key, text in texts.items()) or "base"


def plan(
    base: str, settings: Sequence[Setting], seeds: int, overrides: Sequence[str] = ()
) -> list[Run]:
    """The runs of a sweep, each setting's seeds one after another.

    Args:
        base: string. The config that the settings change; its `output_dir` is the
            sweep's, and its seeds are the first ones.
        settings: As `read_grid` returns them.
        seeds: int. How many seeds, counted up from the config's.
        overrides: Strings `section.key=value` over the config.

    Raises:
        UserError: If one of the configs is not valid.
    """
    config = load_config(base, overrides)
    return [
        Run(name_of(setting), seed, load_config(base, [*overrides, *changes]))
        for setting in settings
        for seed in range(config.training.seed, config.training.seed + seeds)
        for changes in [_changes(config, setting, seed)]
    ]


def _changes(base: Config, setting: Setting, seed: int) -> list[str]:
    name = re.sub(r"[^\w.=-]+", "_", name_of(setting))
    values = {
        **setting,
        "training.seed": seed,
        "data.seed": base.data.seed + seed - base.training.seed,
        "output_dir": str(Path(base.output_dir, name, f"seed-{seed}")),
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def check(runs: Sequence[Run]) -> list[int]:
    """Checks every run's data and directory before the first one begins.

    Returns:
        Each run's last step.

    Raises:
        UserError: If a run could not begin or go on, or has nothing to compare.
    """
    from simcse_tf.training import run_data, run_directory

    steps: dict[str, int] = {}
    for each in runs:
        if not each.config.data.evaluation:
            raise UserError(
                "data.evaluation: a sweep compares dev scores; expected a SentEval "
                "directory, received null"
            )
        begun = (each.directory / "config.json").exists()
        run_directory.check(each.directory, each.config, resume=begun)
        if each.setting not in steps:
            steps[each.setting] = run_data.open_data(each.config).last_step
    return [steps[each.setting] for each in runs]


def train_all(runs: Sequence[Run], steps: Sequence[int]) -> None:
    """Trains what is not finished, one run at a time, each in a process of its own.

    Args:
        runs: As `plan` returns them.
        steps: As `check` returns them.

    Raises:
        UserError: If a run fails; its log holds the reason.
        Stopped: If SIGTERM came; the run that was under way has been saved.
    """
    from tqdm import tqdm

    from simcse_tf.training.callbacks import sigterm

    with (
        sigterm() as must_stop,
        tqdm(total=sum(steps), unit="step", desc="sweep") as bar,
    ):
        for each, count in zip(runs, steps, strict=True):
            bar.set_postfix_str(f"{each.setting}, seed {each.seed}")
            begin = bar.n
            if not (each.directory / RESULT_FILE).is_file():
                for done in _train(each, must_stop):
                    bar.update(begin + done - bar.n)
                _write_json(each.directory / RESULT_FILE, _scores(each.directory))
            bar.update(begin + count - bar.n)


def _train(each: Run, must_stop: Callable[[], bool]) -> Iterator[int]:
    """Runs `simcse_tf.train`, or goes on with it; yields how many steps are done."""
    each.directory.mkdir(parents=True, exist_ok=True)
    log = each.directory / LOG_FILE
    config = each.directory / "planned.json"
    with atomic_write(config) as path:
        path.write_text(each.config.to_json(), "utf-8")
    begun = (each.directory / "config.json").exists()
    command = [sys.executable, "-m", "simcse_tf.train", "--config", str(config)]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, *["--resume"] * begun], stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                yield _steps_done(each.directory)
                if must_stop():
                    process.terminate()
                time.sleep(_POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
    if must_stop():
        raise Stopped("stopped by SIGTERM: the same command again goes on")
    if process.returncode:
        lines = log.read_text("utf-8", "replace").splitlines() or [""]
        raise UserError(f"{each.setting}, seed {each.seed}: {lines[-1]} (log: {log})")


def _steps_done(directory: Path) -> int:
    metrics = directory / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0


def _scores(directory: Path) -> dict[str, float]:
    """What the table shows of a run: its best model's dev scores and test average."""
    dev = read_json(str(directory / "best" / "dev.json"))
    scores = {
        f"{task} dev": dev[task] for task in ("STSBenchmark", "avg") if task in dev
    }
    test = directory / "test.json"
    if test.is_file():
        scores["avg test"] = read_json(str(test))["avg"]
    return scores


def summarize(runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """The scores of finished runs, by setting and column, a number a seed."""
    table: dict[str, dict[str, list[float]]] = {}
    for each in runs:
        row = table.setdefault(each.setting, {})
        for column, score in read_json(str(each.directory / RESULT_FILE)).items():
            row.setdefault(column, []).append(score)
    return table


def format_table(table: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A Markdown table: mean and sample standard deviation over the seeds."""
    present = set().union(*table.values())
    columns = [column for column in _COLUMNS if column in present]
    rows = [["setting", *columns]]
    for setting, scores in table.items():
        name = setting.replace("|", r"\|")
        rows.append([name, *(_mean_and_deviation(scores[c]) for c in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(
        1, [widths[0] * "-", *((width - 1) * "-" + ":" for width in widths[1:])]
    )
    return "\n".join(
        f"| {row[0]:<{widths[0]}} | "
        + " | ".join(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))
        + " |"
        for row in rows
    )


def _mean_and_deviation(scores: Sequence[float]) -> str:
    mean = statistics.fmean(scores)
    return f"{mean:.2f}" + (
        f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    )


def write_summary(directory: Path, table: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes `sweep.json`, `sweep.md` and the plot `sweep.png`, `sweep.svg`.

    Args:
        directory: The sweep's.
        table: As `summarize` returns it.
    """
    from simcse_tf import figures

    _write_json(directory / "sweep.json", table)
    with atomic_write(directory / "sweep.md") as path:
        path.write_text(format_table(table) + "\n", "utf-8")
    column = next(c for c in _COLUMNS if all(c in row for row in table.values()))
    scores = [row[column] for row in table.values()]
    label = f"Spearman x 100, {column}"
    figures.save(figures.sweep(list(table), scores, label), directory / "sweep")


def _write_json(path: Path, values: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def main() -> None:
    parser = Parser(
        "simcse_tf.sweep", description="Train and compare settings over seeds."
    )
    parser.add_argument("--config", required=True, metavar="BASE.json")
    parser.add_argument("--grid", required=True, metavar="GRID.json")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key.sub=value",
        help="values over the base config's, e.g. output_dir=runs/table-1",
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        raise UserError(f"--seeds: expected 1 or more, received {arguments.seeds}")
    require("matplotlib")
    settings = read_grid(arguments.grid)
    runs = plan(arguments.config, settings, arguments.seeds, arguments.set)
    train_all(runs, check(runs))
    table = summarize(runs)
    directory = runs[0].directory.parents[1]
    write_summary(directory, table)
    print(format_table(table))
    print(f"{directory / 'sweep.md'}, .json, .png and .svg")


if __name__ == "__main__":
    run(main)
