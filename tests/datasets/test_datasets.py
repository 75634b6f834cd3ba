"""The paper's corpora through TensorFlow Datasets, from files in a manual directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from simcse_tf import datasets
from simcse_tf.core.errors import UserError
from simcse_tf.datasets import source

ROOT = Path(__file__).parents[2]
TRIPLETS = Path(
    os.environ.get("SIMCSE_DATA", ROOT.parent / "shared" / "data"), "snli_triplets.csv"
)
SENTENCES = [f"Sentence {i}, na\u00efve \U0001f600." for i in range(300)]
ROWS = [
    ("A man eats.", "Someone eats.", "Nobody eats."),
    ('He said "go", twice.', "He\u2028spoke.", "Tabs\tand, commas."),
    *((f"Premise {i}.", f"Entailed {i}.", f"Contradicting {i}.") for i in range(200)),
]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


def csv_text(rows, header="sent0,sent1,hard_neg"):
    return "\n".join([header, *(",".join(map(quoted, row)) for row in rows)]) + "\n"


@pytest.fixture(autouse=True)
def _registered():
    datasets.register()


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Builds a dataset from a file's bytes in a manual directory, never online."""

    def no_download(*_):
        raise AssertionError("the test tried to download")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", no_download)
    manual = tmp_path / "manual"
    manual.mkdir()

    def run(name, file, content, **kwargs):
        (manual / file).write_bytes(content)
        builder = tfds.builder(name, data_dir=tmp_path / "data", **kwargs)
        config = tfds.download.DownloadConfig(manual_dir=manual)
        builder.download_and_prepare(download_config=config)
        return builder

    return run


def prepare_wiki(prepare, content, **kwargs):
    return prepare("wiki1m_for_simcse", "wiki1m_for_simcse.txt", content, **kwargs)


def prepare_nli(prepare, content, **kwargs):
    return prepare("nli_for_simcse", "nli_for_simcse.csv", content, **kwargs)


def test_sentences_come_in_file_order(prepare):
    builder = prepare_wiki(prepare, "\n".join(SENTENCES).encode())
    examples = builder.as_dataset(split="train").as_numpy_iterator()
    assert [e["sentence"].decode() for e in examples] == SENTENCES


def test_triplets_come_in_file_order(prepare):
    builder = prepare_nli(prepare, csv_text(ROWS).encode())
    examples = builder.as_dataset(split="train").as_numpy_iterator()
    columns = ("sent0", "sent1", "hard_neg")
    assert [tuple(e[c].decode() for c in columns) for e in examples] == ROWS


def test_random_access_to_sentences(prepare):
    content = "\n".join(SENTENCES).encode()
    builder = prepare_wiki(prepare, content, file_format="array_record")
    data = builder.as_data_source("train")
    assert len(data) == len(SENTENCES)
    for i in (299, 0, 17, 150):
        assert data[i]["sentence"].decode() == SENTENCES[i]


def test_random_access_to_triplets(prepare):
    builder = prepare_nli(prepare, csv_text(ROWS).encode(), file_format="array_record")
    data = builder.as_data_source("train")
    assert len(data) == len(ROWS)
    for i in (201, 1, 0):
        received = data[i]
        assert set(received) == {"sent0", "sent1", "hard_neg"}
        assert received["sent1"].decode() == ROWS[i][1]


def test_info_says_where_the_data_is_from(prepare):
    info = prepare_wiki(prepare, b"One.\n").info
    assert info.homepage == "https://github.com/princeton-nlp/SimCSE"
    assert "gao2021simcse" in info.citation
    assert info.splits["train"].num_examples == 1


def test_line_ends_marks_and_empty_lines_are_not_text(prepare):
    builder = prepare_wiki(prepare, b"\xef\xbb\xbfOne.\r\n\n  \nTwo\rhalves.\n")
    examples = builder.as_dataset(split="train").as_numpy_iterator()
    assert [e["sentence"] for e in examples] == [b"One.", b"Two\rhalves."]


def test_blank_lines_and_rows_with_an_empty_sentence_are_not_examples(prepare):
    content = b"sent0,sent1,hard_neg\n\n1,2,3\n4, ,6\n7,8,\n9,10,11\n\n"
    examples = prepare_nli(prepare, content).as_dataset(split="train")
    assert [e["sent0"] for e in examples.as_numpy_iterator()] == [b"1", b"9"]


def test_a_sentence_that_is_not_utf8_is_named_with_its_line(prepare):
    with pytest.raises(UserError, match=r"wiki1m_for_simcse\.txt, line 3: not UTF-8"):
        prepare_wiki(prepare, b"One.\n\nCaf\xe9.\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,c\n1,2,3\n", r"line 1: expected the header sent0,.* 'a,b,c'"),
        (b"", r"line 1: expected the header"),
        (b"sent0,sent1,hard_neg\n1,2,3\n1,2\n", r"line 3: expected 3 .* received 2"),
        (b'sent0,sent1,hard_neg\n1,2,"3\n4"\n1,2,3,4\n', r"line 4: .* received 4"),
        (b"sent0,sent1,hard_neg\n\n1,2\n", r"line 3: expected 3 .* received 2"),
        (b"sent0,sent1,hard_neg\n1,2,\xff\n", r"line 2: not UTF-8"),
        (b'sent0,sent1,hard_neg\n1,2,"3\n', r"line 2: unexpected end of data"),
    ],
)
def test_malformed_rows_are_named_with_their_line(prepare, content, message):
    with pytest.raises(UserError, match=r"nli_for_simcse\.csv, " + message):
        prepare_nli(prepare, content)


def test_a_broken_file_leaves_no_dataset_behind(prepare, tmp_path):
    with pytest.raises(UserError):
        prepare_wiki(prepare, b"One.\n\xff\n")
    builder = prepare_wiki(prepare, b"One.\nTwo.\n")
    assert builder.info.splits["train"].num_examples == 2


@pytest.mark.parametrize("other_file", [None, "unrelated.txt"])
def test_without_a_manual_file_the_official_address_is_fetched(tmp_path, other_file):
    class Manager:
        """A download manager whose downloads are addresses."""

        @property
        def manual_dir(self):
            if other_file is None:
                raise AssertionError("Manual directory does not exist or is empty.")
            return tmp_path

        def download(self, url):
            return Path("/downloads", url.split("://")[1])

    if other_file:
        (tmp_path / other_file).touch()
    assert source.fetch(Manager(), "wiki1m_for_simcse.txt") == Path(
        "/downloads/huggingface.co/datasets/princeton-nlp/datasets-for-simcse"
        "/resolve/main/wiki1m_for_simcse.txt"
    )


def test_importing_the_package_does_not_import_tensorflow():
    code = (
        "import sys, simcse_tf.datasets\n"
        "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert simcse_tf.datasets.NliForSimcse.name == 'nli_for_simcse'\n"
        "assert simcse_tf.datasets.Wiki1mForSimcse.name == 'wiki1m_for_simcse'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_registering_twice_is_registering_once():
    datasets.register()
    datasets.register()
    assert tfds.builder_cls("nli_for_simcse") is datasets.NliForSimcse


def test_unknown_attributes_are_unknown():
    with pytest.raises(AttributeError, match="has no attribute 'Wikipedia'"):
        _ = datasets.Wikipedia


@pytest.mark.skipif(
    not TRIPLETS.exists(), reason=f"real triplets are not at {TRIPLETS}"
)
def test_real_triplets_read_whole(prepare):
    builder = prepare_nli(prepare, TRIPLETS.read_bytes())
    assert builder.info.splits["train"].num_examples == 5883
