"""A model's embeddings of the training texts: kept, resumed, shared and checked."""

import os
import threading

import numpy as np
import pytest
from support import kill_points

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked
from simcse_tf.data.distinct_texts import DistinctTexts
from simcse_tf.data.sources import open_source
from simcse_tf.encoding import text_embeddings
from simcse_tf.encoding.text_embeddings import KeptEmbeddings
from simcse_tf.objectives.text_embeddings import EMBEDDINGS_FILE, FINGERPRINTS_FILE

TEXTS = [f"{i} dogs run" for i in range(40)]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), pooling="avg")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*TEXTS, TEXTS[0]]))
    return DistinctTexts(open_source(str(path)))


@pytest.fixture
def kept(model, texts, cache):
    return KeptEmbeddings(model, texts)


def look_up(kept):
    return kept.embeddings.look_up(
        np.array([[text.encode()] for text in TEXTS], object)
    )


def test_each_text_gets_what_the_model_predicts(kept, model, capsys):
    kept.compute()
    expected = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(look_up(kept)[:, 0], expected, atol=1e-6)
    assert "model: embeds 40 distinct texts once, into " in capsys.readouterr().err


def test_what_an_earlier_run_has_computed_is_not_computed_again(
    kept, model, texts, monkeypatch, capsys
):
    kept.compute()
    capsys.readouterr()
    monkeypatch.delattr(text_embeddings, "encode_blocks")
    KeptEmbeddings(model, texts).compute()
    assert capsys.readouterr().err == ""


def test_another_reading_of_the_same_model_has_another_key(kept, texts, tiny_preset):
    same = SimCSE.from_preset(str(tiny_preset), pooling="avg")
    assert KeptEmbeddings(same, texts).key == kept.key
    keys = [
        kept.key,
        KeptEmbeddings(same, texts, max_length=8).key,
        KeptEmbeddings(SimCSE.from_preset(str(tiny_preset)), texts).key,
    ]
    for prompt in ("query:", "query: "):
        same.prompt = prompt
        keys.append(KeptEmbeddings(same, texts).key)
    same.prompt = ""
    kernel = same.backbone.weights[0]
    kernel.assign(kernel + 1e-6)
    keys.append(KeptEmbeddings(same, texts).key)
    assert len({*keys}) == len(keys)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (_flip, EMBEDDINGS_FILE),
        (_flip, FINGERPRINTS_FILE),
        (lambda path: os.truncate(path, 300), EMBEDDINGS_FILE),
        (os.unlink, EMBEDDINGS_FILE),
        (_flip, "card.json"),
    ],
)
def test_damaged_ones_are_computed_again(kept, model, texts, damage, name, capsys):
    kept.compute()
    expected = look_up(kept)
    damage(kept.embeddings.directory / name)
    again = KeptEmbeddings(model, texts)
    again.compute()
    assert "computed again" in capsys.readouterr().err
    np.testing.assert_array_equal(look_up(again), expected)


def test_a_killed_run_is_resumed_where_it_was(kept, model, texts, monkeypatch, capsys):
    blocks = texts.blocks

    def two_blocks(start=0):
        [block] = blocks(start)
        yield from (block[:10], block[10:])

    def killed(model, blocks, **settings):
        yield next(encode(model, blocks, **settings))
        raise KeyboardInterrupt

    encode = text_embeddings.encode_blocks
    monkeypatch.setattr(texts, "blocks", two_blocks)
    monkeypatch.setattr(text_embeddings, "encode_blocks", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.compute()
    with pytest.raises(UserError, match="cannot read"):
        look_up(kept)
    starts = []
    monkeypatch.setattr(
        texts, "blocks", lambda start=0: starts.append(start) or blocks(start)
    )
    monkeypatch.setattr(text_embeddings, "encode_blocks", encode)
    kept.compute()
    assert starts == [10]
    np.testing.assert_allclose(
        look_up(kept)[:, 0], model.predict(TEXTS, verbose=0), atol=1e-6
    )


def test_who_finds_another_process_at_work_waits_for_it(kept, monkeypatch, capsys):
    monkeypatch.setattr(text_embeddings, "_POLL_SECONDS", 0.01)
    lock = kept.embeddings.directory.with_suffix(".lock")
    waiting = threading.Thread(target=kept.compute)
    with locked(lock, "busy"):
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not kept.embeddings.directory.exists()
    waiting.join(60)
    look_up(kept)
    told = capsys.readouterr().err
    assert told.count("another process embeds the same texts (process ") == 1


def test_a_place_that_cannot_be_written_is_told_at_once(
    model, texts, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept = KeptEmbeddings(model, texts, name="teacher")
    with pytest.raises(UserError, match="teacher: cannot write .*not a writable dir"):
        kept.compute()


def test_without_a_home_the_variable_is_named(model, texts, monkeypatch):
    def homeless():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(text_embeddings.Path, "home", homeless)
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        KeptEmbeddings(model, texts)


@pytest.mark.attack
def test_a_kill_at_any_moment_leaves_whole_ones_or_none(
    kept, model, texts, tmp_path, monkeypatch
):
    """Of which the next run makes whole ones."""
    rows = np.random.default_rng(0).normal(size=(40, 16)).astype("float32")

    def encode(model, blocks, **settings):
        done = 0
        for block in blocks:
            done = 40 - len(block)
            yield rows[done : done + 20]
            yield rows[done + 20 :]

    monkeypatch.setattr(text_embeddings, "encode_blocks", encode)

    def write(place):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        KeptEmbeddings(model, texts).compute()

    def look(place):
        """Without what whoever is killed last of all leaves, which is in no way."""
        found = kill_points.tree(place)
        return {n: c for n, c in found.items() if "/." not in n and ".lock" not in n}

    points = kill_points.survives_kills(
        tmp_path, lambda place: None, write, outputs=[], look=look, every=3
    )
    assert points > 10
