"""Opening what a config's `data.train` names: a file, or a TFDS data set."""

from pathlib import Path

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.file_formats import SUFFIXES
from simcse_tf.data.files import FileSource
from simcse_tf.data.tfds import TFDSSource

TFDS_SCHEME = "tfds:"


def open_source(name: str) -> Source:
    """Opens the training data that a config's `data.train` names.

    A file is read through once, to check every line and to note where it starts;
    the text itself stays on disk.

    Args:
        name: string. A `.txt` file with a sentence a line; a `.csv`, `.tsv` or
            `.jsonl` file with the columns `sent0`, `sent1` and, for triplets,
            `hard_neg`; or `tfds:NAME` for a data set of tensorflow-datasets with
            the feature `sentence` or those columns.

    Raises:
        UserError: If it is missing, empty or malformed; the message names the
            file and the line.

    Example:

    ```python
    len(open_source("sentences.txt"))  # 1000000
    ```
    """
    if name.startswith(TFDS_SCHEME):
        return TFDSSource(name.removeprefix(TFDS_SCHEME))
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{name}: expected a .txt, .csv, .tsv or .jsonl file or tfds:NAME, "
            f"received {suffix or 'no suffix'}"
        )
    return FileSource(name)
