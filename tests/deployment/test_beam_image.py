"""The image of Beam's workers, and the commands that the docs have for it."""

import json
import re
import shlex
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = "Dockerfile.beam.dockerignore"


@pytest.fixture(scope="module")
def dockerfile():
    """The Dockerfile with its continued lines joined."""
    return re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile.beam").read_text())


@pytest.fixture(scope="module")
def arguments(dockerfile):
    return dict(re.findall(r"^ARG (\w+)=(.+)$", dockerfile, re.M))


def test_versions_are_those_of_the_lock(arguments):
    lock = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"^apache-beam==(\S+)", lock, re.M) == [arguments["BEAM_VERSION"]]
    least, below = map(int, re.search(r'">=3\.(\d+),<3\.(\d+)"', _setup()).groups())
    assert least <= int(arguments["PYTHON_VERSION"].removeprefix("3.")) < below


def test_all_that_is_copied_is_there_and_goes_to_the_build(dockerfile, arguments):
    kept = [
        line[1:]
        for line in (ROOT / IGNORED).read_text().splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.M)
    names = [name for names in copied for name in names.split()]
    for name in names:
        path = name.replace("${MODEL_DIR}", arguments["MODEL_DIR"])
        assert any(fnmatch(path, f"{it}*") for it in kept), path
        if path == name:
            assert (ROOT / path).exists(), path
    assert {"requirements.lock", "setup.py", "simcse_tf", "${MODEL_DIR}"} <= set(names)
    # What setup.py reads.
    assert set(re.findall(r'ROOT / "(\w+\.?\w*)"\)', _setup())) <= set(names)


def test_extras_are_those_of_setup(dockerfile):
    [extra] = re.findall(r'"/project\[(\w+)\]"', dockerfile)
    assert f'"{extra}": [' in _setup()
    assert "apache-beam[${BEAM_EXTRA}]==${BEAM_VERSION}" in dockerfile


def test_it_starts_beams_worker(dockerfile):
    [entrypoint] = re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.M)
    assert json.loads(entrypoint) == ["/opt/apache/beam/boot"]
    assert "COPY --from=beam /opt/apache/beam /opt/apache/beam" in dockerfile
    # An ARG before the first FROM is known in later stages only where it is said again.
    last = dockerfile.rpartition("\nFROM ")[2]
    used = set(re.findall(r"\$\{(\w+)\}", last.partition("\n")[2]))
    assert used <= set(re.findall(r"^ARG (\w+)", last, re.M))


@pytest.mark.skipif(sys.platform != "linux", reason="Beam's options are Linux'")
def test_the_commands_in_the_docs_have_flags_that_there_are():
    pytest.importorskip("apache_beam")
    from simcse_tf import pipeline
    from simcse_tf.pipelines.arguments import beam_flags
    from simcse_tf.pipelines.running import options_of

    pages = [
        (ROOT / "docs" / name).read_text() for name in ("scaling.md", "pipeline.md")
    ]
    text = "\n".join(pages).replace("\\\n", " ")
    commands = re.findall(r"^python -m simcse_tf\.pipeline (.+)$", text, re.M)
    runners = set()
    for command in commands:
        parsed, unknown = pipeline._parser().parse_known_args(shlex.split(command))
        options = options_of(beam_flags(parsed, unknown, []))
        runners.add(options.get_all_options()["runner"])
    assert {"DataflowRunner", "FlinkRunner", "SparkRunner", "FnApiRunner"} <= runners


def _setup():
    return (ROOT / "setup.py").read_text()
