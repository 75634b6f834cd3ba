"""What installing and serving rest on: setup.py, the lock, licence, server configs."""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


@pytest.fixture(scope="module")
def setup_arguments():
    """The arguments with which setup.py calls `setuptools.setup`."""
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", arguments.update)
        patch.chdir(ROOT)
        script = ROOT / "setup.py"
        exec(compile(script.read_text(), script, "exec"), {"__file__": str(script)})
    return arguments


def applies(requirement, python):
    """Whether a requirement's marker, if any, holds on Linux with this Python."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def locked(python):
    """Name to version of what requirements.lock installs."""
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if applies(pin, python):
            assert canonicalize_name(pin.name) not in pins
            (version,) = pin.specifier
            assert version.operator == "=="
            pins[canonicalize_name(pin.name)] = version.version
    return pins


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_every_direct_dependency_inside_its_range(python, setup_arguments):
    pins = locked(python)
    wanted = list(setup_arguments["install_requires"])
    for name, extra in setup_arguments["extras_require"].items():
        # mteb brings PyTorch.
        wanted += extra if name != "mteb" else []
    assert wanted
    for requirement in map(Requirement, wanted):
        if applies(requirement, python):
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (requirement, version)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_builds_the_project_and_leaves_pytorch_out(python):
    pins = locked(python)
    assert {"setuptools", "wheel"} <= pins.keys()
    assert not {"torch", "sentence-transformers", "transformers"} & pins.keys()


def test_lock_names_no_index_and_no_place():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if not line.startswith("#"):
            assert not re.search(r"/|@|\\|--", line), line


def test_version_and_pythons(setup_arguments):
    import simcse_tf

    assert setup_arguments["version"] == simcse_tf.__version__
    assert setup_arguments["python_requires"] == ">=3.10,<3.14"


@pytest.fixture(scope="module")
def commands(setup_arguments):
    """The installed commands' names and the functions that they call."""
    scripts = setup_arguments["entry_points"]["console_scripts"]
    points = [EntryPoint(*script.split(" = "), "console_scripts") for script in scripts]
    return {point.name: point.load() for point in points}


def test_every_door_is_an_installed_command(commands):
    package = ROOT / "simcse_tf"
    doors = {
        path.stem
        for path in package.glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    }
    doors |= {path.parent.name for path in package.glob("*/__main__.py")}
    assert set(commands) == {f"simcse-{door}" for door in doors}


def test_an_installed_command_ends_with_its_doors_exit_code(
    commands, monkeypatch, capsys
):
    for name, command in commands.items():
        for flag, code in [("--help", 0), ("--no-such-flag", 2)]:
            monkeypatch.setattr(sys, "argv", [name, flag])
            with pytest.raises(SystemExit) as end:
                command()
            assert end.value.code == code, name
        door = name.removeprefix("simcse-")
        usage = capsys.readouterr().out.splitlines()[0]
        assert f"simcse_tf.{door} " in usage


def test_license_is_apache_2():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    # Built from a copy: setuptools leaves build/ and *.egg-info where it works.
    source = tmp_path / "source"
    source.mkdir()
    for name in ["setup.py", "pyproject.toml", "LICENSE", "README.md"]:
        shutil.copy(ROOT / name, source)
    for name in ["simcse_tf", "tests", "serving"]:
        shutil.copytree(ROOT / name, source / name)
    command = "-m pip wheel -q --no-deps --no-build-isolation --wheel-dir"
    subprocess.run([sys.executable, *command.split(), tmp_path, source], check=True)

    (wheel,) = tmp_path.glob("simcse_tf-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "simcse_tf"
    sources = [
        path
        for kind in ("py", "j2", "config", "npz", "html", "css", "js", "svg")
        for path in package.rglob(f"*.{kind}")
    ]
    assert package / "reporting/page.html.j2" in sources
    assert package / "server/batching.config" in sources
    assert package / "tokenizers/unicode_tables.npz" in sources
    assert package / "web/static/index.html" in sources
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= set(names)
    assert "simcse_tf/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"simcse_tf"}
    assert any(name.endswith("LICENSE") for name in names)


def dockerfile():
    return (ROOT / "Dockerfile").read_text()


def test_dockerfile_serves_by_the_locked_line_and_installs_nothing(setup_arguments):
    (version,) = re.findall(r"^ARG TF_SERVING_VERSION=(\S+)$", dockerfile(), re.M)
    tensorflow = next(
        requirement
        for requirement in map(Requirement, setup_arguments["install_requires"])
        if requirement.name == "tensorflow"
    )
    assert version in tensorflow.specifier
    assert not re.search(r"^RUN|pip", dockerfile(), re.M)


def test_dockerfile_names_configs_that_exist():
    names = re.findall(r"/config/(\w+\.config)", dockerfile())
    assert sorted(names) == sorted(
        path.name for path in (ROOT / "serving").glob("*.config")
    )
