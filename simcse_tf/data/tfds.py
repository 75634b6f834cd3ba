"""Training examples of TensorFlow Datasets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simcse_tf import datasets
from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Row
from simcse_tf.data.columns import Columns, layout_of


class TFDSSource:
    """A data set of tensorflow-datasets, read in its random-access format.

    Args:
        name: string. What `tfds.builder` takes, e.g. `wiki1m_for_simcse`. It is
            downloaded and prepared where it is not yet.
        columns: Optional mapping of roles to features; see
            `simcse_tf.data.columns.layout_of`. Defaults to `None`.

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

    def __init__(self, name: str, columns: Columns | None = None):
        import tensorflow_datasets as tfds

        datasets.register()
        try:
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
        except (tfds.core.DatasetNotFoundError, OSError, ValueError) as error:
            raise UserError(f"cannot prepare tfds:{name}: {error}") from error
        self._names = _text_features(name, builder.info.features, columns)
        self._examples = builder.as_data_source("train")
        self.columns = len(self._names)
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


def _text_features(
    name: str, features: Mapping[str, Any], columns: Columns | None
) -> tuple[str, ...]:
    try:
        layout = layout_of(tuple(features), columns)
    except ValueError as error:
        raise UserError(f"tfds:{name}: {error}") from None
    if layout.scored or layout.labelled:
        raise UserError(
            f"tfds:{name}: expected texts alone, received {layout.description()}; "
            "these are read from a file"
        )
    for used in layout.used:
        if features[used].np_dtype != np.object_ or features[used].shape:
            raise UserError(f"tfds:{name}: expected {used} to be a text")
    return layout.used
