import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.training.config import parse_config
from simcse_tf.training.run_data import open_data, training_source


def config(path, text, objective=(), data=(), **training):
    path.write_text(text)
    return parse_config(
        {
            "model": {"preset": "p"},
            "objective": dict(objective),
            "data": {"train": str(path), **dict(data)},
            "training": training,
            "output_dir": "o",
        }
    )


def read(source, epoch=0):
    rows = source.read(range(len(source)), epoch)
    return [tuple(text.decode() for text in row) for row in rows]


def test_a_config_without_positives_of_its_own_reads_the_file_as_it_is(tmp_path):
    pairs = config(tmp_path / "t.csv", "sent0,sent1\na,b\nc,d\n")
    assert read(training_source(pairs)) == [("a", "b"), ("c", "d")]
    same_mask = config(tmp_path / "t.txt", "a\nb\n", {"same_mask": True})
    assert read(training_source(same_mask)) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("objective", "data", "positives"),
    [
        ({"kind": "next_sentence"}, {}, {("a b", "c d"), ("c d", "e f")}),
        ({"kind": "next_sentence", "next_k": 2}, {"seed": 2}, {("a b", "c d")}),
        ({}, {"augmentation": "delete_one_word"}, {("a b", "b"), ("c d", "d")}),
    ],
)
def test_a_config_says_where_positives_come_from(tmp_path, objective, data, positives):
    source = training_source(
        config(tmp_path / "t.txt", "a b\nc d\ne f\n", objective, data)
    )
    rows = [row for epoch in range(20) for row in read(source, epoch)]
    assert positives <= set(rows)


@pytest.mark.parametrize(
    ("objective", "data", "message"),
    [
        ({"same_mask": True}, {}, "same_mask: .* 2 col"),
        ({}, {"augmentation": "crop"}, "crop: .* 2 col"),
    ],
)
def test_data_that_do_not_fit_the_objective_are_refused(
    tmp_path, objective, data, message
):
    with pytest.raises(UserError, match=message):
        training_source(
            config(tmp_path / "t.csv", "sent0,sent1\na,b\n", objective, data)
        )


def test_an_epoch_is_the_whole_batches_of_the_source(tmp_path):
    text = "\n".join(f"sentence {number}" for number in range(23))
    data = open_data(config(tmp_path / "t.txt", text, batch_size=5, epochs=3))
    assert (data.steps_per_epoch, data.last_step) == (4, 12)
    data = open_data(config(tmp_path / "t.txt", text, batch_size=5, max_steps=7))
    assert (data.steps_per_epoch, data.last_step) == (4, 7)
    with pytest.raises(UserError, match=r"23 examples, fewer than one batch .*24"):
        open_data(config(tmp_path / "t.txt", text, batch_size=24))


@pytest.mark.parametrize("directory", ["x" * 300, "a\0b", "\ud800"])
def test_evaluation_data_whose_name_cannot_be_are_told(tmp_path, directory):
    evaluated = config(tmp_path / "t.txt", "a\nb\n", batch_size=2)
    evaluated.data.evaluation = directory
    with pytest.raises(UserError, match="data.evaluation: expected a SentEval dire"):
        open_data(evaluated)
