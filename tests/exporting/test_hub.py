import pytest
from huggingface_hub import constants
from support.hub import TOKEN, running_hub

from simcse_tf.core.errors import UserError
from simcse_tf.exporting.hub import push


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        # The upload service of the real hub speaks a protocol of its own.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "model" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "model" / "README.md").write_text("---\ntags: []\n---\n# mine\n")
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\0weights" * 1000)
    return tmp_path / "model"


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_pushed_directory_is_there_byte_for_byte(hub, directory):
    assert push(directory, "org/mine").endswith("/org/mine/commit/1")
    assert hub.repositories == {"org/mine": contents(directory)}
    assert not hub.private["org/mine"]


def test_a_second_push_updates_the_repository(hub, directory):
    push(directory, "org/mine", private=True)
    (directory / "README.md").write_text("---\ntags: []\n---\n# better\n")
    push(directory, "org/mine")
    assert hub.repositories["org/mine"] == contents(directory)
    assert hub.private["org/mine"]


@pytest.mark.parametrize("name", ["mine", "a/b/c", "org/ mine", ""])
def test_a_name_that_the_hub_does_not_have_is_refused(hub, directory, name):
    with pytest.raises(UserError, match="--push: expected ORG/NAME, received"):
        push(directory, name)


def test_no_token_a_wrong_one_and_a_weak_one_are_one_line_each(
    hub, directory, monkeypatch, tmp_path
):
    with pytest.raises(UserError, match="others/mine: the token may not write there"):
        push(directory, "others/mine")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match=r"the hub does not know the token .* pushes"):
        push(directory, "org/mine")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no"))
    with pytest.raises(UserError, match="no token for the hub"):
        push(directory, "org/mine")
    assert hub.repositories == {}


def test_a_hub_that_cannot_be_reached_is_one_line(hub, directory):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(UserError, match=r"--push org/mine: .+ is complete"):
        push(directory, "org/mine")
