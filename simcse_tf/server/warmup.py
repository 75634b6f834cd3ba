"""Runs the requests that an export holds for warming up the model."""

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from simcse_tf.core.errors import UserError
from simcse_tf.server.servable import Servable

REQUESTS_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000  # TF Serving's own limit


def replay(servable: Servable) -> int:
    """Runs every warmup request once, so that the first client does not wait.

    Args:
        servable: The loaded model; its directory may hold a TFRecord file of
            `PredictionLog` records under `assets.extra/`.

    Returns:
        How many requests were run; 0 without a file.

    Raises:
        UserError: The file is damaged, has more than 1,000 records or one that
            is not a `Predict` request, or the model fails on one or answers with
            what is no number: a model that cannot answer its own warmup request
            cannot serve.

    Example:
    ```python
    replay(servable)  # 8 for an export with two signatures
    ```
    """
    path = servable.path / REQUESTS_FILE
    if not path.is_file():
        return 0
    count = 0
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(path)), start=1):
            if count > MOST_RECORDS:
                raise ValueError(f"more than {MOST_RECORDS} records")
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            if not log.HasField("predict_log"):
                raise ValueError("not a Predict request")
            _check_finite(servable.run_alone(log.predict_log.request))
    except Exception as error:
        message = f"warmup requests {path}: failed after record {count}: {error}"
        raise UserError(message) from error
    return count


def _check_finite(outputs: dict[str, np.ndarray]) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f'output "{name}" holds NaN or infinity')
