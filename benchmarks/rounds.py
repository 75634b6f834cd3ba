"""Contestants of a benchmark in turn: one computes at a time, in the same noise.

Each is a process of its own that stays alive, so that start-up is not measured and each
may have its own Python environment. This module needs the standard library alone in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / "peers"
OTHER = "other checkout"
READY_SECONDS = 900
STOP_SECONDS = 10
ROUND_SECONDS = 600


def answer(work: Callable[[], dict]) -> None:
    """A contestant's loop: works whenever it is asked to, and tells the result."""
    # What libraries print goes elsewhere.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(work()), file=out, flush=True)
    for _ in sys.stdin:
        print(json.dumps(work()), file=out, flush=True)


class Contestant:
    """A process that `answer`s.

    Args:
        name: string. For the table.
        python: string. The interpreter.
        arguments: The script and its arguments.
    """

    def __init__(self, name: str, python: str, *arguments: object):
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in `stop`
        self.process = subprocess.Popen(
            [python, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.warm_up: dict = {}

    def ready(self) -> None:
        """Waits for its first answer, that of its warm-up."""
        if not self.warm_up:
            self.warm_up = self._read(READY_SECONDS)
            print(f"ready: {self.name}", file=sys.stderr)

    def round(self) -> dict:
        """What it answers, and how many cores it kept busy."""
        assert self.process.stdin
        begun, used = time.perf_counter(), cpu_seconds(self.process.pid)
        print("go", file=self.process.stdin, flush=True)
        result = self._read(ROUND_SECONDS)
        used = cpu_seconds(self.process.pid) - used
        return {**result, "cores": used / (time.perf_counter() - begun)}

    def _read(self, seconds: float) -> dict:
        assert self.process.stdout
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self._log.read()[-3000:]}\n{self.name}: no answer")
        return json.loads(line)

    def stop(self) -> None:
        # At the end of its input it ends what it started itself.
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def seconds_since_start() -> float:
    """Since this process was started, its imports included."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def compete(
    starts: Sequence[tuple], rounds: int, at_once: bool = False
) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Starts contestants and lets them work in turn, each round in another order.

    Args:
        starts: Arguments of `Contestant` for each.
        rounds: int.
        at_once: bool. Whether all start side by side, where that is long and the
            warm-ups do not disturb each other.

    Returns:
        What each answered first, and in every round.
    """
    contestants: list[Contestant] = []
    try:
        for start in starts:
            contestants.append(Contestant(*start))
            if not at_once:
                contestants[-1].ready()
        for contestant in contestants:
            contestant.ready()
        results: dict[str, list[dict]] = {each.name: [] for each in contestants}
        for number in range(rounds):
            first = number % len(contestants)
            for each in contestants[first:] + contestants[:first]:
                results[each.name].append(each.round())
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    finally:
        for each in contestants:
            each.stop()
    return {each.name: each.warm_up for each in contestants}, results


def rates(
    results: Mapping[str, list[dict]], key: str = "rate"
) -> dict[str, list[float]]:
    return {name: [each[key] for each in rounds] for name, rounds in results.items()}


def print_cores(results: Mapping[str, list[dict]]) -> None:
    """In every round: one that kept fewer busy says little of the others."""
    for name, cores in rates(results, "cores").items():
        print(f"{name}: cores busy", " ".join(f"{each:.2f}" for each in cores))


def print_ratios(rates: Mapping[str, list[float]], ours: str, unit: str) -> None:
    """A line a contestant: its median rate, and how many times that ours is."""
    width = max(map(len, rates))
    print(f"{'':{width}}  median {unit:12}  ours is so many times that (min to max)")
    for name, each in rates.items():
        ratios = [one / other for one, other in zip(rates[ours], each, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        median = statistics.median(ratios)
        print(
            f"{name:{width}}  {statistics.median(each):19.1f}  {median:.2f}  ({spread})"
        )


def write(
    arguments: argparse.Namespace,
    unit: str,
    rates: Mapping[str, list[float]],
    raw: dict,
) -> None:
    """Writes `--json` and `--plot`."""
    if arguments.json:
        facts = {"unit": unit, "rates": rates, "machine": machine(), **raw}
        Path(arguments.json).write_text(json.dumps(facts, indent=2) + "\n")
    if arguments.plot:
        plot(rates, unit, arguments.plot)


def plot(rates: Mapping[str, list[float]], unit: str, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 * len(rates) + 1), layout="constrained")
    axes = figure.subplots()
    names = list(rates)[::-1]
    axes.barh(names, [statistics.median(rates[name]) for name in names], color="0.8")
    for place, name in enumerate(names):
        axes.plot(rates[name], [place] * len(rates[name]), "k.", markersize=4)
    axes.set_xlabel(f"{unit}: median (bar) and every round (dots)")
    figure.savefig(path, dpi=150)


def machine() -> dict[str, Any]:
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = os.cpu_count()
    return {"cpu": model[0] if model else platform.processor(), "cores": cores}


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone at the end."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def parser(
    description: str | None, precisions: Sequence[str] = ("float32", "bfloat16")
) -> argparse.ArgumentParser:
    """The flags that all such benchmarks have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--precision", choices=precisions, default="float32")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--json", metavar="OUT.json")
    made.add_argument("--plot", metavar="OUT.png")
    made.add_argument(
        "--peers-python",
        metavar="PYTHON",
        help="of an environment with peers/requirements.txt; else one is made",
    )
    made.add_argument(
        "--against",
        metavar="CHECKOUT",
        help="compare with another checkout of the project, and not with the peers",
    )
    return made


def other_checkout(checkout: str, script: str, *arguments: object) -> tuple:
    """The contestant of another checkout: its own script, with its own package."""
    root = Path(checkout).resolve()
    python = ("/usr/bin/env", f"PYTHONPATH={root}", sys.executable)
    return (OTHER, *python, root / "benchmarks" / Path(script).name, *arguments)


def compare_checkouts(ours: tuple, other: tuple, unit: str, rounds: int) -> None:
    """Lets our code compete with another checkout's, and prints the ratio."""
    _, results = compete([ours, other], rounds)
    print_ratios(rates(results), ours[0], unit)
    print_cores(results)


def peers_python(given: str | None) -> str:
    """The interpreter that has the peers; makes its environment if need be."""
    if given:
        return given
    directory = PEERS / ".venv"
    python = directory / "bin" / "python"
    # Made last: an environment without it is half made.
    complete = directory / "complete"
    if not complete.exists():
        print("installing the peers", file=sys.stderr)
        venv.create(directory, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*install, "-r", PEERS / "requirements.txt"], check=True)
        complete.touch()
    return str(python)
