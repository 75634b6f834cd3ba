"""The transfer tasks: what is read, and how a classifier is chosen and judged."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from support.models import ROOT

from simcse_tf.core import extras
from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import transfer

pytestmark = pytest.mark.usefixtures("small_tasks")

BINARY = {
    "MR": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "CR": ("CR/custrev.pos", "CR/custrev.neg"),
    "SUBJ": ("SUBJ/subj.objective", "SUBJ/subj.subjective"),
    "MPQA": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
}
COUNTS = {
    "MR": {"train": 10662},
    "CR": {"train": 3775},
    "SUBJ": {"train": 10000},
    "MPQA": {"train": 10606},
    "SST2": {"train": 67349, "dev": 872, "test": 1821},
    "TREC": {"train": 5452, "test": 500},
    "MRPC": {"train": 4076, "test": 1725},
}
QUESTIONS = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]


@pytest.fixture(scope="session")
def reference():
    """SentEval's protocol written a second time, in plain loops."""
    path = ROOT / "benchmarks" / "transfer_reference.py"
    spec = importlib.util.spec_from_file_location("transfer_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hashed_bag_of_words(sentences):
    """An encoder without a model: word counts, hashed into 32 dimensions."""
    vectors = np.zeros((len(sentences), 32), np.float32)
    for row, sentence in enumerate(sentences):
        for word in sentence.split():
            vectors[row, sum(map(ord, word)) % 32] += 1
    return vectors


def by_first_word(sentences):
    """An encoder that keeps nothing but the first word, a direction each."""
    vectors = np.zeros((len(sentences), 32), np.float32)
    for row, sentence in enumerate(sentences):
        vectors[row, sum(map(ord, sentence.split()[0])) % 32] = 10
    return vectors


def write(path: Path, *lines: str, encoding="utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    return path


def write_binary(root, task="CR", ones=None, zeros=None):
    ones = ones or [f"good thing {i}" for i in range(24)]
    zeros = zeros or [f"bad thing {i}" for i in range(24)]
    for name, lines in zip(BINARY[task], (ones, zeros), strict=True):
        write(root / name, *lines)


def write_sst(root, count=24):
    for split in ("train", "dev", "test"):
        lines = [f"{w} {split} {i}\t{y}" for i in range(count) for w, y in POLAR]
        write(root / "SST/binary" / f"sentiment-{split}", *lines)


POLAR = (("good", 1), ("bad", 0))


def write_trec(root, train=None):
    lines = [f"{q}:fine {q} is {i} ?" for i in range(20) for q in QUESTIONS]
    write(root / "TREC/train_5500.label", *(train or lines))
    write(root / "TREC/TREC_10.label", *lines[:30])


def write_mrpc(root, train=None, header="Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"):
    pairs = [f"{i % 2}\t1\t2\tw{i} a\t{'w' if i % 2 else 'v'}{i} b" for i in range(48)]
    write(root / "MRPC/msr_paraphrase_train.txt", header, *(train or pairs))
    write(root / "MRPC/msr_paraphrase_test.txt", header, *pairs[:9])


def write_all(root):
    for task in BINARY:
        write_binary(root, task)
    write_sst(root)
    write_trec(root)
    write_mrpc(root)


@pytest.mark.slow
@pytest.mark.parametrize("task", transfer.TASKS)
def test_real_data_has_the_published_number_of_examples(data_dir, task):
    splits = transfer.load_task(data_dir / "senteval", task)
    assert {split: len(examples) for split, examples in splits.items()} == COUNTS[task]
    for examples in splits.values():
        columns = examples.sentences
        assert len(columns) == (2 if task == "MRPC" else 1)
        assert {len(column) for column in columns} == {len(examples)}
        assert set(examples.labels) == set(range(6 if task == "TREC" else 2))


@pytest.mark.slow
def test_real_data_is_read_as_an_independent_reader_does(data_dir, reference):
    found = transfer.load_tasks(data_dir / "senteval")
    for task, splits in reference.read(data_dir / "senteval").items():
        for examples, expected in zip(found[task].values(), splits, strict=True):
            texts, labels = zip(*expected, strict=True)
            columns = zip(*texts, strict=True) if task == "MRPC" else [texts]
            assert examples.labels.tolist() == list(labels), task
            assert list(examples.sentences) == [
                list(map(" ".join, column)) for column in columns
            ]


def test_examples_come_in_the_order_of_sentevals_folds(tmp_path):
    ones = ["four words are here", "b b", "one"] * 8
    write_binary(tmp_path, ones=ones, zeros=["a a", "three words here"] * 12)
    [sentences] = transfer.load_task(tmp_path, "CR")["train"].sentences
    # By the number of words, then label 0 before 1, then as in the files.
    assert list(Counter(sentences)) == (
        ["one", "a a", "b b", "three words here", "four words are here"]
    )


def test_which_file_has_label_one(tmp_path):
    for task in BINARY:
        write_binary(tmp_path, task, ones=["one"] * 20, zeros=["zero"] * 21)
        examples = transfer.load_task(tmp_path, task)["train"]
        assert examples.labels.tolist() == [0] * 21 + [1] * 20
        assert examples.sentences == (["zero"] * 21 + ["one"] * 20,)


def test_an_empty_line_is_an_example_and_white_space_is_one_space(tmp_path):
    write_binary(tmp_path, ones=["", " a \t b\u0085c "] * 20)
    [sentences] = transfer.load_task(tmp_path, "CR")["train"].sentences
    assert sentences[:20] == [""] * 20
    # The file is read as latin-1, where the bytes of U+0085 are two characters.
    assert "a bÂ c" in sentences


def test_trec_is_latin_1_and_its_coarse_label_stands_before_the_colon(tmp_path):
    lines = [f"{q}:x Which {q} ?" for q in QUESTIONS] * 20
    write_trec(tmp_path, train=lines)
    path = tmp_path / "TREC/train_5500.label"
    path.write_bytes(
        path.read_bytes() + b"ENTY:food What is jalape\xf1o : hot or not ?\n"
    )
    examples = transfer.load_task(tmp_path, "TREC")["train"]
    [sentences] = examples.sentences
    assert sentences[-1] == "What is jalapeño : hot or not ?"
    assert examples.labels[-1] == 2
    assert {(s, y) for s, y in zip(sentences[:-1], examples.labels, strict=False)} == {
        (f"Which {q} ?", y) for y, q in enumerate(QUESTIONS)
    }


def test_mrpc_has_a_header_a_byte_order_mark_and_quotes_that_are_text(tmp_path):
    rows = [f'{i % 2}\t1\t2\t" a{i}\tb " c' for i in range(40)]
    write_mrpc(tmp_path, train=rows, header="\ufeffQuality\ta\tb\tc\td")
    examples = transfer.load_task(tmp_path, "MRPC")["train"]
    assert len(examples) == 40
    a, b = examples.sentences
    assert a[0] == '" a0'
    assert set(b) == {'b " c'}


@pytest.mark.parametrize(
    ("task", "name", "text", "message"),
    [
        ("SST2", "SST/binary/sentiment-dev", "a b 1\n", r"line 1: expected 2 tab-sep"),
        ("SST2", "SST/binary/sentiment-dev", "a\t2\n", r"line 1: .*0, 1, received '2'"),
        ("SST2", "SST/binary/sentiment-dev", b"a\t1\n\xff\t0\n", r"line 2: not UTF-8"),
        ("TREC", "TREC/TREC_10.label", "NUM:x a\nNUN:x b\n", r"line 2: .*LOC.*'NUN'"),
        ("TREC", "TREC/TREC_10.label", "\n", r"TREC_10\.label, line 1: expected a lab"),
        ("MRPC", "MRPC/msr_paraphrase_test.txt", "1\t2\n", r"line 1: expected 5 tab-"),
        (
            *("MRPC", "MRPC/msr_paraphrase_test.txt"),
            *("1\t2\t3\ta\tb\n", r"line 1: expected a header .* received '1'"),
        ),
        (
            *("MRPC", "MRPC/msr_paraphrase_test.txt"),
            *("Quality\ta\tb\tc\td\nyes\t2\t3\ta\tb\n", r"line 2: .*received 'yes'"),
        ),
        ("MR", "MR/rt-polarity.pos", "a\n" * 19, r"at least 20 .* received 24, 19"),
        ("CR", "CR/custrev.neg", None, r"CR: .*custrev\.neg does not exist; expected"),
    ],
)
def test_a_malformed_file_is_named_with_the_line(tmp_path, task, name, text, message):
    write_all(tmp_path)
    path = tmp_path / name
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        transfer.load_task(tmp_path, task)


def test_unknown_and_missing_tasks(tmp_path):
    with pytest.raises(UserError, match="unknown task 'SST5'"):
        transfer.load_task(tmp_path, "SST5")
    with pytest.raises(UserError, match="no transfer task"):
        transfer.evaluate_transfer(hashed_bag_of_words, tmp_path, [])


@pytest.mark.parametrize(
    ("names", "tasks"),
    [
        (["transfer"], list(transfer.TASKS)),
        (["sst-2", "mrpc", " SST2 "], ["SST2", "MRPC"]),
    ],
)
def test_task_names_resolve(names, tasks):
    assert transfer.resolve_tasks(names) == tasks


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'MRCP': did you mean 'MRPC'\? Known: trans"):
        transfer.resolve_tasks(["MRCP"])


def first_lines(data_dir, root, task, count):
    """The first examples of each file of a task, and of each class."""
    for split in reference_files(task):
        lines = (data_dir / "senteval" / split).read_bytes().splitlines()
        path = root / split
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(lines[:count]) + b"\n")


def reference_files(task):
    if task in BINARY:
        return BINARY[task]
    directory, names = {
        "SST2": ("SST/binary", ["sentiment-" + s for s in ("train", "dev", "test")]),
        "TREC": ("TREC", ["train_5500.label", "TREC_10.label"]),
        "MRPC": ("MRPC", [f"msr_paraphrase_{s}.txt" for s in ("train", "test")]),
    }[task]
    return [f"{directory}/{name}" for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "count"),
    [("CR", 150), ("SUBJ", 150), ("SST2", 400), ("TREC", 1500), ("MRPC", 400)],
)
def test_accuracy_is_that_of_the_protocol_in_plain_loops(
    data_dir, tmp_path, reference, task, count
):
    first_lines(data_dir, tmp_path, task, count)
    read = {
        "SST2": reference.read_sst,
        "TREC": reference.read_trec,
        "MRPC": reference.read_mrpc,
    }.get(task, lambda data: reference.read_binary(data, task))
    splits = read(tmp_path)
    for examples in splits:
        reference.in_order(task, examples)
    sentences = reference.sentences_of({task: splits})
    rows = {sentence: row for row, sentence in enumerate(sentences)}
    embeddings = hashed_bag_of_words(sentences)
    features = [reference.features(task, e, rows, embeddings) for e in splits]
    expected = reference.reference(reference.Sklearn, task, features, 2)

    results = transfer.evaluate_transfer(hashed_bag_of_words, tmp_path, [task], 2)
    found = transfer.scores(results)
    # Where a fit stops may turn an example that lies on the border.
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.5), name


@pytest.mark.slow
def test_a_linear_task_is_learned_whole(tmp_path):
    write_all(tmp_path)
    tasks = [task for task in transfer.TASKS if task != "MRPC"]
    results = transfer.evaluate_transfer(by_first_word, tmp_path, tasks, folds=3)
    for result in results.values():
        assert (result.accuracy, result.dev_accuracy, result.f1) == (1, 1, None)


def test_mrpc_learns_from_differences_and_products(tmp_path):
    write_mrpc(tmp_path)
    splits = transfer.load_task(tmp_path, "MRPC")
    results = transfer.evaluate_examples(hashed_bag_of_words, {"MRPC": splits}, 3)

    def features(examples):
        u, v = map(hashed_bag_of_words, examples.sentences)
        return np.hstack([np.abs(u - v), u * v])

    train, test = splits["train"], splits["test"]
    possible = {
        (np.mean(predicted == test.labels), f1_score(test.labels, predicted))
        for c in (0.5, 1, 2, 4, 8, 16, 32)
        for predicted in [
            LogisticRegression(C=c, max_iter=1000)
            .fit(features(train), train.labels)
            .predict(features(test))
        ]
    }
    assert (results["MRPC"].accuracy, results["MRPC"].f1) in possible


def test_which_sentence_of_a_pair_comes_first_does_not_matter(tmp_path):
    write_mrpc(tmp_path)
    splits = transfer.load_task(tmp_path, "MRPC")
    swapped = {
        name: transfer.Examples(examples.sentences[::-1], examples.labels)
        for name, examples in splits.items()
    }
    one, other = (
        transfer.evaluate_examples(hashed_bag_of_words, {"MRPC": s}, 3)["MRPC"]
        for s in (splits, swapped)
    )
    assert (one.accuracy, one.f1) == (other.accuracy, other.f1)


def test_the_test_split_has_no_part_in_the_choice(tmp_path):
    write_sst(tmp_path)
    splits = transfer.load_task(tmp_path, "SST2")
    test = splits["test"]
    turned = splits | {"test": transfer.Examples(test.sentences, 1 - test.labels)}
    one, other = (
        transfer.evaluate_examples(hashed_bag_of_words, {"SST2": s})["SST2"]
        for s in (splits, turned)
    )
    assert one.dev_accuracy == other.dev_accuracy
    assert one.accuracy == pytest.approx(1 - other.accuracy)


def test_of_equally_good_regularizations_the_strongest_is_taken():
    x = np.array([[-1.0], [1.0]] * 20)
    data = (x, (x[:, 0] > 0).astype(int))
    assert transfer._choose([(data, data)], (0.25, 1.0, 8.0), lambda: None) == (0.25, 1)


def test_accuracies_are_compared_as_percentages_of_two_decimals():
    # The weaker regularization is right about one more of 30,000: 0.003 percent.
    x = np.concatenate([np.repeat([-1.0, 1.0], 10), [-0.02]])[:, None]
    train = (x, np.array([0] * 10 + [1] * 11))
    models = [LogisticRegression(C=c).fit(*train) for c in (1e-3, 1e3)]
    borders = [float(-m.intercept_[0] / m.coef_[0, 0]) for m in models]
    assert borders[0] != borders[1]
    between = np.mean(borders)
    label = int(models[1].predict([[between]])[0])
    assert label != models[0].predict([[between]])[0]
    rest = np.repeat([-1e6, 1e6], 15_000)
    dev = (np.append(rest, between)[:, None], np.append(rest > 0, label).astype(int))
    assert models[1].score(*dev) > models[0].score(*dev)
    c, _ = transfer._choose([(train, dev)], (1e-3, 1e3), lambda: None)
    assert c == 1e-3


@pytest.mark.slow
def test_each_distinct_sentence_is_encoded_once_for_all_tasks(tmp_path):
    write_all(tmp_path)
    calls = []

    def encode(sentences):
        calls.append(sentences)
        return hashed_bag_of_words(sentences)

    loaded = transfer.load_tasks(tmp_path)
    results = transfer.evaluate_examples(encode, loaded, folds=2)
    # Here the sentences of CR, SUBJ and MPQA are those of MR.
    assert len(calls) == len({"MR", "SST2", "TREC", "MRPC"})
    encoded = Counter(sentence for sentences in calls for sentence in sentences)
    assert set(encoded.values()) == {1}
    assert set(encoded) == {
        sentence
        for splits in loaded.values()
        for examples in splits.values()
        for column in examples.sentences
        for sentence in column
    }
    assert list(results) == list(transfer.TASKS)
    for result in results.values():
        assert set(result.seconds) == {"encoding", "fitting"}
        assert min(result.seconds.values()) > 0


def test_a_collapsed_model_reaches_the_share_of_the_larger_class(tmp_path):
    write_binary(tmp_path, zeros=[f"bad {i}" for i in range(72)])
    encode = lambda sentences: np.ones((len(sentences), 4), np.float32)  # noqa: E731
    result = transfer.evaluate_transfer(encode, tmp_path, ["CR"], folds=3)["CR"]
    assert result.accuracy == 0.75
    # Inner folds cannot all have the same share of each class.
    assert result.dev_accuracy == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_the_users_to_mend(tmp_path, value):
    write_binary(tmp_path)
    encode = lambda sentences: np.full((len(sentences), 4), value)  # noqa: E731
    with pytest.raises(UserError, match="embeddings, row 1: expected finite"):
        transfer.evaluate_transfer(encode, tmp_path, ["CR"])


@pytest.mark.parametrize("folds", [0, 1, 11])
def test_folds_out_of_range_are_refused(tmp_path, folds):
    write_binary(tmp_path)
    with pytest.raises(ValueError, match=f"expected 2 to 10, received {folds}"):
        transfer.evaluate_transfer(hashed_bag_of_words, tmp_path, ["CR"], folds)


def test_scores_are_percentages_with_the_mean_of_the_accuracies():
    results = {
        "CR": transfer.Result(0.75, 0.5),
        "MRPC": transfer.Result(0.25, 1.0, f1=0.125),
    }
    assert transfer.scores(results) == (
        {"CR": 75, "MRPC": 25, "MRPC_f1": 12.5, "transfer_avg": 50}
    )
    assert transfer.scores(results, "dev") == (
        {"CR": 50, "MRPC": 100, "transfer_avg": 75}
    )


def test_progress_is_shown_on_stderr(tmp_path, capsys):
    write_binary(tmp_path)
    transfer.evaluate_transfer(by_first_word, tmp_path, ["CR"], 2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "CR: 100%" in err
    assert "4/4" in err
    transfer.evaluate_transfer(by_first_word, tmp_path, ["CR"], 2)
    assert capsys.readouterr() == ("", "")


def test_a_missing_package_is_answered_with_how_to_install_it(tmp_path, monkeypatch):
    extras.require("numpy", "sklearn")
    write_binary(tmp_path)
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r'sklearn.* pip install "simcse-tf\[eval\]"'):
        transfer.evaluate_transfer(hashed_bag_of_words, tmp_path, ["CR"])
