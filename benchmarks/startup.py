"""How long until a command says something: help, a mistake, a server's first answer.

    python benchmarks/startup.py --export models/simcse --against ../other-checkout

Each time in a new process, in turn with the same command of another checkout, if there
is one, and with Python that imports TensorFlow and does nothing.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from simcse_tf.client import Client

HERE = Path(__file__).resolve().parents[1]
MISTAKE = ("train", "--config", "{config}", "--set", "training.bach_size=8")
COMMANDS = {
    "client --help": ("client", "--help"),
    "evaluate --help": ("evaluate", "--help"),
    "a wrong config": MISTAKE,
}
SECONDS_TO_START = 120


def run(checkout: Path, arguments: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        check=False,
    )
    return time.perf_counter() - begun


def first_answer(checkout: Path, export: str) -> float:
    """Seconds from the server's start until it has answered one request."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "simcse_tf.serve", "--model_base_path", export]
    command += ["--port", str(port), "--rest_api_port", "0"]
    begun = time.perf_counter()
    with (
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdout=subprocess.DEVNULL,
        ) as server,
        Client(f"127.0.0.1:{port}") as client,
    ):
        try:
            client.wait_until_ready(SECONDS_TO_START)
            client.encode(["A man is playing a guitar."])
            return time.perf_counter() - begun
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", required=True, help="what simcse_tf.export wrote")
    parser.add_argument("--against", metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    checkouts = {"": HERE}
    if arguments.against:
        checkouts[" of the other checkout"] = Path(arguments.against).resolve()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "config.json")
        config.write_text('{"data": {"train": "x.txt"}}')
        for _ in range(arguments.rounds):
            for of, checkout in checkouts.items():
                for name, command in COMMANDS.items():
                    words = [word.format(config=config) for word in command]
                    words[0] = f"simcse_tf.{words[0]}"
                    seconds = run(checkout, ["-m", *words])
                    times.setdefault(name + of, []).append(seconds)
                seconds = first_answer(checkout, arguments.export)
                times.setdefault(f"serve, first answer{of}", []).append(seconds)
            seconds = run(HERE, ["-c", "import tensorflow"])
            times.setdefault("import tensorflow", []).append(seconds)
    for name, each in times.items():
        spread = f"({min(each):.2f} to {max(each):.2f})"
        print(f"{name:45} {statistics.median(each):6.2f} s {spread}")


if __name__ == "__main__":
    main()
