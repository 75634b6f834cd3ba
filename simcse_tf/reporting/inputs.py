"""What a report measures on: tasks, queries and a corpus, read from files."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.texts import load_sentences
from simcse_tf.evaluation import sts, transfer
from simcse_tf.evaluation.own_sets import OwnSet, RetrievalSet, texts_of
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.tasks import Data, FoundData, Tasks, find_data, load_tasks

BENCHMARK = "STSBenchmark"
_QUERIES = 5
_SEED = 42


@dataclass(frozen=True)
class Inputs:
    """Everything that is read from files before a model is loaded.

    Attributes:
        tasks: The STS tasks' test splits, the transfer tasks, and own sets: their test
            split, or what there is.
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
        sets: list[OwnSet] = [*self.tasks.sts.values(), *self.tasks.own.values()]
        if self.benchmark:
            sets.append(self.benchmark)
        return list(dict.fromkeys([*_sentences(sets), *self.queries, *self.corpus]))


def read_inputs(
    data: Data | None,
    kinds: Sequence[str],
    queries: str | None = None,
    corpus: str | None = None,
    where: str = "--data",
) -> Inputs:
    """Reads what the report measures on.

    Args:
        data: A path, or paths by name; see `find_data`. `None` where there is none.
        kinds: Some of `"sts"`, `"own"` and `"transfer"`.
        queries: Optional file of sentences. Defaults to some of STS-B's test split.
        corpus: Optional file of sentences. Defaults to every sentence of the STS
            tasks' test splits, or of own sets.
        where: string. The key or flag that named the data, for messages.

    Raises:
        UserError: A file is missing or malformed, or the directory holds none of the
            tasks asked for.

    Example:

    ```python
    read_inputs("senteval", ["sts", "transfer"], queries="queries.txt")
    ```
    """
    found = find_data(data, where) if data else FoundData()
    directory = found.senteval
    pairs: dict[str, Pairs] = {}
    benchmark, examples = None, {}
    if directory and "sts" in kinds:
        pairs = _read_sts(directory)
        if BENCHMARK in sts.available_tasks(directory, "dev"):
            benchmark = sts.load_task(directory, BENCHMARK, "dev")
    if directory and "transfer" in kinds:
        examples = transfer.load_tasks(directory, transfer.TASKS)
    own = _read_own(found) if "own" in kinds else {}
    given = {
        "queries": load_sentences(queries) if queries else [],
        "corpus": load_sentences(corpus) if corpus else [],
    }
    missing = [name for name, sentences in given.items() if not sentences]
    if not pairs and not own and len(missing) == 1:
        raise UserError(
            f"--{missing[0]}: expected a file, since no STS task and no own set is "
            "loaded to take sentences from"
        )
    sets: Mapping[str, OwnSet] = pairs or own
    return Inputs(
        Tasks(pairs, examples, own),
        benchmark,
        given["queries"] or _some_queries(sets),
        given["corpus"] or list(dict.fromkeys(_sentences(sets.values()))),
    )


def _read_sts(data_dir: Path) -> dict[str, Pairs]:
    tasks = sts.available_tasks(data_dir)
    if not tasks:
        raise UserError(
            f"no STS task in {data_dir}: expected a SentEval directory, one that "
            "holds STS/ or SICK/"
        )
    return sts.load_tasks(data_dir, tasks)


def _read_own(found: FoundData) -> dict[str, OwnSet]:
    """The test splits of own sets, and of those that have none the dev splits."""
    tested = found.available("test")
    own: dict[str, OwnSet] = {}
    for name in found.own:
        split = "test" if name in tested else "dev"
        own |= load_tasks(found, [name], split).own
    return own


def _some_queries(sets: Mapping[str, OwnSet]) -> list[str]:
    chosen = [sets[BENCHMARK]] if BENCHMARK in sets else list(sets.values())
    asked: list[str] = []
    for own in chosen:
        if isinstance(own, RetrievalSet):
            asked += own.queries.values()
    sentences = list(dict.fromkeys(asked or _sentences(chosen)))
    return random.Random(_SEED).sample(sentences, min(_QUERIES, len(sentences)))


def _sentences(sets: Iterable[OwnSet]) -> Iterable[str]:
    for own in sets:
        yield from texts_of(own)
