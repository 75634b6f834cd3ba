"""Training examples of TensorFlow Datasets."""

from collections.abc import Sequence

from simcse_tf import datasets
from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Row
from simcse_tf.datasets.source import COLUMNS


class TFDSSource:
    """A data set of tensorflow-datasets, read in its random-access format.

    Args:
        name: string. What `tfds.builder` takes, e.g. `wiki1m_for_simcse`. It is
            downloaded and prepared where it is not yet.

    Raises:
        UserError: If there is no such data set, it cannot be prepared, or its
            features are not those of `simcse_tf.data.sources.open_source`.

    Example:

    ```python
    TFDSSource("wiki1m_for_simcse").read([0])  # [(b"YMCA in South Australia",)]
    ```
    """

    scored = False
    varies = False
    skipped = 0
    notes: Sequence[str] = ()

    def __init__(self, name: str):
        import tensorflow_datasets as tfds

        datasets.register()
        try:
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
        except (tfds.core.DatasetNotFoundError, OSError, ValueError) as error:
            raise UserError(f"cannot prepare tfds:{name}: {error}") from error
        names = tuple(builder.info.features)
        if names not in (("sentence",), COLUMNS[:2], COLUMNS):
            raise UserError(
                f"tfds:{name}: expected the feature sentence or "
                f"{','.join(COLUMNS[:2])} [,{COLUMNS[2]}], received {','.join(names)}"
            )
        self._names = names
        self._examples = builder.as_data_source("train")
        self.columns = len(names)
        train = builder.info.splits["train"]
        self.fingerprint = (
            f"{builder.info.full_name}, {train.num_examples} examples, "
            f"{int(train.num_bytes)} bytes"
        )

    def __len__(self) -> int:
        return len(self._examples)

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        examples = self._examples.__getitems__([int(index) for index in indices])
        return [tuple(example[name] for name in self._names) for example in examples]
