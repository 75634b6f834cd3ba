"""How much each of SentEval's files holds: a file that was cut off is not scored.

Twenty lines of SUBJ, say, are learned without an error, and a part of an STS task gives
a score that looks like the others.
"""

from pathlib import Path

from simcse_tf.core.errors import UserError

# Scored pairs; of STS12 to STS16 those of each subset.
STS = {
    "STS12": {
        "MSRpar": 750,
        "MSRvid": 750,
        "SMTeuroparl": 459,
        "surprise.OnWN": 750,
        "surprise.SMTnews": 399,
    },
    "STS13": {"FNWN": 189, "headlines": 750, "OnWN": 561},
    "STS14": {
        "deft-forum": 450,
        "deft-news": 300,
        "headlines": 750,
        "images": 750,
        "OnWN": 750,
        "tweet-news": 750,
    },
    "STS15": {
        "answers-forums": 375,
        "answers-students": 750,
        "belief": 375,
        "headlines": 750,
        "images": 750,
    },
    "STS16": {
        "answer-answer": 254,
        "headlines": 249,
        "plagiarism": 230,
        "postediting": 244,
        "question-question": 209,
    },
    "STSBenchmark": {"train": 5749, "dev": 1500, "test": 1379},
    "SICKRelatedness": {"train": 4500, "dev": 500, "test": 4927},
}
# Examples, by a file's name.
TRANSFER = {
    "rt-polarity.pos": 5331,
    "rt-polarity.neg": 5331,
    "custrev.pos": 2407,
    "custrev.neg": 1368,
    "subj.objective": 5000,
    "subj.subjective": 5000,
    "mpqa.pos": 3312,
    "mpqa.neg": 7294,
    "sentiment-train": 67349,
    "sentiment-dev": 872,
    "sentiment-test": 1821,
    "train_5500.label": 5452,
    "TREC_10.label": 500,
    "msr_paraphrase_train.txt": 4076,
    "msr_paraphrase_test.txt": 1725,
}


def check_sts(task: str, part: str, count: int, path: Path) -> None:
    """Checks that a file holds all of the scored pairs that its task has.

    Args:
        task: A name of `STS`.
        part: The subset, or the split of a task without subsets.
        count: int. The scored pairs that were read.
        path: The file, for the message.

    Raises:
        UserError: There are more or fewer.

    Example:

    ```python
    check_sts("STSBenchmark", "dev", 1500, path)
    ```
    """
    _check(count, STS.get(task, {}).get(part), "scored pairs", path)


def check_transfer(count: int, path: Path) -> None:
    """Checks that a file of a transfer task holds all of its examples.

    Args:
        count: int. The examples that were read.
        path: The file, of one of the names in `TRANSFER`.

    Raises:
        UserError: There are more or fewer.

    Example:

    ```python
    check_transfer(5000, Path("senteval/SUBJ/subj.objective"))
    ```
    """
    _check(count, TRANSFER.get(path.name), "examples", path)


def _check(count: int, known: int | None, what: str, path: Path) -> None:
    if known is not None and count != known:
        raise UserError(
            f"{path} holds {count} {what}, and SentEval's file {known}: expected the "
            "whole file (for data of your own see docs/evaluation.md)"
        )
