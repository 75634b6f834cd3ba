"""Opening what a config's `data.train` names: a file, or a TFDS data set."""

from simcse_tf.data.base import Source
from simcse_tf.data.columns import Columns
from simcse_tf.data.files import open_file
from simcse_tf.data.tfds import TFDSSource

TFDS_SCHEME = "tfds:"


def open_source(
    name: str, columns: Columns | None = None, quoting: str | None = None
) -> Source:
    """Opens the training data that a config's `data.train` names.

    Args:
        name: string. A file, as `simcse_tf.data.files.open_file` takes it; or
            `tfds:NAME` for a data set of tensorflow-datasets with the feature
            `sentence`, or `sent0`, `sent1` and, for triplets, `hard_neg`.
        columns: Optional mapping. As for `open_file`.
        quoting: Optional string. As for `open_file`.

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
    return open_file(name, columns, quoting)
