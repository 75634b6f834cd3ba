"""What a report measures on: tasks, queries and a corpus, read from files."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.texts import load_sentences
from simcse_tf.evaluation import sts, transfer
from simcse_tf.evaluation.results import Tasks
from simcse_tf.evaluation.sts import Pairs

BENCHMARK = "STSBenchmark"
_QUERIES = 5
_SEED = 42


@dataclass(frozen=True)
class Inputs:
    """Everything that is read from files before a model is loaded.

    Attributes:
        tasks: The STS tasks' test splits and the transfer tasks.
        benchmark: STS-B's dev pairs, on which geometry is measured.
        queries: Sentences to retrieve for; may be empty.
        corpus: Sentences to retrieve.

    Example:

    ```python
    read_inputs("senteval", ["sts"]).tasks.sts["STS12"]
    ```
    """

    tasks: Tasks = field(default_factory=Tasks)
    benchmark: Pairs | None = None
    queries: list[str] = field(default_factory=list)
    corpus: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Every distinct sentence outside the transfer tasks."""
        pairs = list(self.tasks.sts.values())
        if self.benchmark:
            pairs.append(self.benchmark)
        return list(dict.fromkeys([*_sentences(pairs), *self.queries, *self.corpus]))


def read_inputs(
    data_dir: str | None,
    kinds: Sequence[str],
    queries: str | None = None,
    corpus: str | None = None,
) -> Inputs:
    """Reads what the report measures on.

    Args:
        data_dir: A directory in SentEval's layout; `None` where there is none.
        kinds: `"sts"`, `"transfer"` or both.
        queries: Optional file of sentences. Defaults to some of STS-B's test split.
        corpus: Optional file of sentences. Defaults to every sentence of the STS
            tasks' test splits.

    Raises:
        UserError: A file is missing or malformed, or the directory holds none of the
            tasks asked for.

    Example:

    ```python
    read_inputs("senteval", ["sts", "transfer"], queries="queries.txt")
    ```
    """
    pairs: dict[str, Pairs] = {}
    benchmark, examples = None, {}
    if data_dir and "sts" in kinds:
        pairs = _read_sts(data_dir)
        if BENCHMARK in sts.available_tasks(data_dir, "dev"):
            benchmark = sts.load_task(data_dir, BENCHMARK, "dev")
    if data_dir and "transfer" in kinds:
        examples = transfer.load_tasks(data_dir, transfer.TASKS)
    given = {
        "queries": load_sentences(queries) if queries else [],
        "corpus": load_sentences(corpus) if corpus else [],
    }
    missing = [name for name, sentences in given.items() if not sentences]
    if not pairs and len(missing) == 1:
        raise UserError(
            f"--{missing[0]}: expected a file, since no STS task is loaded to take "
            "sentences from"
        )
    sentences = list(dict.fromkeys(_sentences(pairs.values())))
    return Inputs(
        Tasks(pairs, examples),
        benchmark,
        given["queries"] or _some_queries(pairs),
        given["corpus"] or sentences,
    )


def _read_sts(data_dir: str) -> dict[str, Pairs]:
    tasks = sts.available_tasks(data_dir)
    if not tasks:
        raise UserError(
            f"no STS task in {data_dir}: expected a SentEval directory, one that "
            "holds STS/ or SICK/"
        )
    return sts.load_tasks(data_dir, tasks)


def _some_queries(tasks: Mapping[str, Pairs]) -> list[str]:
    chosen = [tasks[BENCHMARK]] if BENCHMARK in tasks else list(tasks.values())
    sentences = list(dict.fromkeys(_sentences(chosen)))
    return random.Random(_SEED).sample(sentences, min(_QUERIES, len(sentences)))


def _sentences(tasks: Iterable[Pairs]) -> Iterable[str]:
    for pairs in tasks:
        yield from pairs.sentences_a
        yield from pairs.sentences_b
