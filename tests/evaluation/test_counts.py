"""A task file that was cut off is refused."""

import shutil

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import counts, sts, transfer

CUT = [
    ("SUBJ", "SUBJ/subj.objective", 20),
    ("MR", "MR/rt-polarity.neg", 5330),
    ("SST2", "SST/binary/sentiment-dev", 871),
    ("TREC", "TREC/TREC_10.label", 499),
    ("MRPC", "MRPC/msr_paraphrase_test.txt", 1725),
    ("STSBenchmark", "STS/STSBenchmark/sts-test.csv", 1378),
    ("SICKRelatedness", "SICK/SICK_test_annotated.txt", 100),
]


@pytest.fixture
def senteval(data_dir, tmp_path):
    """The real files, to be changed."""

    def copied(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data_dir / "senteval" / name, tmp_path / name)
        return tmp_path

    return copied


def cut(path, lines):
    text = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(text[:lines]))


@pytest.mark.parametrize(("task", "name", "lines"), CUT)
def test_a_file_that_was_cut_off_is_refused(senteval, data_dir, task, name, lines):
    directory = (data_dir / "senteval" / name).parent
    files = [path.name for path in directory.iterdir() if path.is_file()]
    root = senteval(*(f"{name.rpartition('/')[0]}/{file}" for file in files))
    load = sts.load_task if task in sts.TASKS else transfer.load_task
    load(root, task)
    cut(root / name, lines)
    found = lines - (task in ("MRPC", "SICKRelatedness"))
    with pytest.raises(UserError, match=rf"{name} holds {found} .*, and SentEval's"):
        load(root, task)


def test_a_subset_that_was_cut_off_is_refused(senteval):
    names = [
        f"STS/STS13-en-test/STS.{kind}.{subset}.txt"
        for kind in ("input", "gs")
        for subset in counts.STS["STS13"]
    ]
    root = senteval(*names)
    for kind in ("input", "gs"):
        cut(root / f"STS/STS13-en-test/STS.{kind}.OnWN.txt", 500)
    with pytest.raises(UserError, match=r"gs\.OnWN\.txt holds 500 .* file 561: expect"):
        sts.load_task(root, "STS13")


def test_a_file_with_more_than_there_is_is_another_one(senteval):
    root = senteval("CR/custrev.pos", "CR/custrev.neg")
    with (root / "CR/custrev.neg").open("a") as file:
        file.write("one more\n")
    with pytest.raises(UserError, match=r"custrev\.neg holds 1369 examples, .* 1368"):
        transfer.load_task(root, "CR")
