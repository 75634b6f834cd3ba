"""Which server the conformance suite asks: one that runs, or one of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.exports import unchecked
from support.searching import build_index
from support.servers import free_port, running_server

ROOT = Path(__file__).parents[2]
INDEXED = [f"Sentence {n} of an index about {n % 7} things." for n in range(30)]

MODELS_CONFIG = """
model_config_list {{
  config {{
    name: "simcse"
    base_path: "{base}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
}}
"""


class Target(NamedTuple):
    """A server that serves an export of simcse_tf."""

    grpc: str
    rest: str | None
    model: str
    labels: tuple[str, ...]
    # "python" or "tf_serving"; they differ where expectations.json says so.
    kind: str
    # Texts in a request; 0 where the server does not batch, and so has no limit.
    max_batch_size: int


def pytest_addoption(parser: pytest.Parser) -> None:
    # Not called when a run begins above this directory: then there are the defaults.
    group = parser.getgroup("serving", "the server that tests/serving asks")
    group.addoption("--target", metavar="HOST:PORT", help="gRPC; default: our own")
    group.addoption("--rest-target", metavar="HOST:PORT", help="REST, of the same")
    group.addoption("--model", default="simcse", help="its name (default: simcse)")
    group.addoption(
        "--labels",
        default="stable,canary",
        help="that the server has (default: stable,canary); '' for none",
    )
    group.addoption(
        "--kind",
        choices=("tf_serving", "python"),
        default="tf_serving",
        help="what --target is (default: tf_serving)",
    )
    group.addoption(
        "--max-batch-size",
        type=int,
        default=64,
        help="of its batching.config (default: 64); 0 without batching",
    )


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    option = request.config.getoption
    if given := option("--target", None):
        yield Target(
            given,
            option("--rest-target"),
            option("--model"),
            tuple(filter(None, option("--labels").split(","))),
            option("--kind"),
            option("--max-batch-size"),
        )
        return
    tiny_preset = request.getfixturevalue("tiny_preset")
    directory = request.getfixturevalue("tmp_path_factory").mktemp("conformance")
    yield from _own_server(tiny_preset, directory)


def _own_server(preset: Path, directory: Path) -> Iterator[Target]:
    """The Python server with this repository's configuration and two versions."""
    from simcse_tf import SimCSE
    from simcse_tf.export import export

    base = directory / "models"
    model = SimCSE.from_preset(str(preset), max_length=32)
    index = build_index(model, directory / "index", INDEXED)
    with unchecked():
        first = export(model, str(base), index=index)
    shutil.copytree(first, base / "2")
    models = directory / "models.config"
    models.write_text(MODELS_CONFIG.format(base=base))
    port = free_port()
    flags = [
        f"--rest_api_port={port}",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={ROOT / 'serving/batching.config'}",
        f"--monitoring_config_file={ROOT / 'serving/monitoring.config'}",
    ]
    with running_server(models, *flags) as server:
        yield Target(
            server.target,
            f"127.0.0.1:{port}",
            "simcse",
            ("stable", "canary"),
            "python",
            64,
        )
