"""Opening what a config's `data.train` names: files and TFDS data sets."""

from collections.abc import Callable

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.columns import Columns
from simcse_tf.data.files import open_file
from simcse_tf.data.mixture import Mixture, Part
from simcse_tf.data.named import TFDS_SCHEME, Train, named_sources
from simcse_tf.data.tfds import TFDSSource


def open_one(
    name: str, columns: Columns | None = None, quoting: str | None = None
) -> Source:
    """Opens one file or TFDS data set.

    Args:
        name: string. A file, as `simcse_tf.data.files.open_file` takes it; or
            `tfds:NAME` for a data set of tensorflow-datasets, its features the columns.
        columns: Optional mapping. As for `open_file`.
        quoting: Optional string. As for `open_file`.

    Raises:
        UserError: If it is missing, empty or malformed; the message names the
            file and the line.

    Example:

    ```python
    len(open_one("sentences.txt"))  # 1000000
    ```
    """
    if name.startswith(TFDS_SCHEME):
        if quoting is not None:
            raise UserError(f"data.quoting: expected a .csv or .tsv file, not {name}")
        return TFDSSource(name.removeprefix(TFDS_SCHEME), columns)
    return open_file(name, columns, quoting)


def open_source(
    train: Train,
    shuffle: bool = True,
    seed: int = 42,
    open_one: Callable[[str], Source] = open_one,
) -> Source:
    """Opens the training data that a config's `data.train` names, as one source.

    Args:
        train: string, or a list of strings and of mappings with `path` and `weight`.
            Each names a file, a glob or `tfds:NAME`.
        shuffle: bool. See `simcse_tf.data.mixture.Mixture`. Defaults to `True`.
        seed: int. See there. Defaults to `42`.
        open_one: Function. Opens one file or data set. Defaults to `open_one`.

    Raises:
        UserError: If one is missing or malformed, a glob matches nothing, a file is
            named twice, or their columns differ.

    Example:

    ```python
    len(open_source("sentences.txt"))  # 1000000
    open_source(["nli.csv", {"path": "ours/*.jsonl.gz", "weight": 3}])
    ```
    """
    parts = [
        Part(named.path, open_one(named.path), named.weight)
        for named in named_sources(train)
    ]
    if len(parts) == 1 and parts[0].weight == 1:
        return parts[0].source
    return Mixture(parts, shuffle, seed)
