"""Reads TF Serving's config files: protos in text form. Needs no TensorFlow."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf import message, text_format

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import read_file
from simcse_tf.server import configs_pb2
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.model_config import PLATFORM

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

M = TypeVar("M", bound=message.Message)

# The package's own copies of `serving/batching.config` and `monitoring.config`.
DEFAULT_BATCHING = Path(__file__).with_name("batching.config")
DEFAULT_MONITORING = Path(__file__).with_name("monitoring.config")
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"

MOST_BYTES = 2**20  # thousands of models


def read_batching(path: Path) -> BatchingParameters:
    """Reads a `--batching_parameters_file`.

    Args:
        path: A file with a `BatchingParameters` proto in text form.

    Raises:
        UserError: The file cannot be read, has an unknown field or a wrong value.

    Example:
    ```python
    read_batching(Path("serving/batching.config")).max_batch_size  # 64
    ```
    """
    parsed = _parse(path, configs_pb2.BatchingParameters())
    given: dict[str, int] = {
        name: getattr(parsed, name).value
        for name in (
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
        )
        if parsed.HasField(name)
    }
    sizes = tuple(parsed.allowed_batch_sizes)
    try:
        return BatchingParameters(**given, allowed_batch_sizes=sizes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_models(path: Path) -> "ModelServerConfig":
    """Reads a `--model_config_file`.

    Args:
        path: A file with a `ModelServerConfig` proto in text form.

    Returns:
        The proto; it lists one model at least, each with name and base path.

    Raises:
        UserError: As for `read_batching`.

    Example:
    ```python
    models = read_models(Path("serving/models.config"))
    models.model_config_list.config[0].name  # "simcse"
    ```
    """
    # Imported here because it imports TensorFlow.
    from tensorflow_serving.config import model_server_config_pb2

    parsed = _parse(path, model_server_config_pb2.ModelServerConfig())
    models = parsed.model_config_list.config
    if not models:
        raise UserError(f"{path}: expected a model_config_list with a config in it")
    for model in models:
        if not model.name or not model.base_path:
            raise UserError(f"{path}: expected name and base_path in every config")
        if model.model_platform != PLATFORM:
            raise UserError(
                f'{path}: model_platform: expected "{PLATFORM}", received '
                f'"{model.model_platform}"'
            )
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: expected each model once, received {names}")
    return parsed


def read_monitoring(path: Path) -> configs_pb2.MonitoringConfig:
    """Reads a `--monitoring_config_file`: a `MonitoringConfig` proto.

    Raises:
        UserError: As for `read_batching`.

    Example:
    ```python
    config = read_monitoring(Path("serving/monitoring.config"))
    config.prometheus_config.enable  # True
    ```
    """
    parsed = _parse(path, configs_pb2.MonitoringConfig())
    page = parsed.prometheus_config.path
    if page and not page.startswith("/"):
        raise UserError(
            f'{path}: path: expected one that starts with "/", received "{page}"'
        )
    return parsed


def read_ssl(path: Path) -> configs_pb2.SSLConfig:
    """Reads an `--ssl_config_file`: an `SSLConfig` proto, certificates inline.

    Raises:
        UserError: As for `read_batching`.

    Example:
    ```python
    read_ssl(Path("ssl.config")).client_verify
    ```
    """
    parsed = _parse(path, configs_pb2.SSLConfig())
    for name in ("server_key", "server_cert"):
        if not getattr(parsed, name):
            raise UserError(f"{path}: {name}: expected the text of a PEM file")
    if parsed.client_verify and not parsed.custom_ca:
        raise UserError(f"{path}: custom_ca: expected with client_verify")
    return parsed


def _parse(path: Path, proto: M) -> M:
    try:
        text = read_file(path, MOST_BYTES).decode()
        text_format.Parse(text, proto)
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text in UTF-8: {error}") from None
    except text_format.ParseError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or messages in messages in messages.
        raise UserError(f"{path}: expected {proto.DESCRIPTOR.name}: {error}") from None
    return proto
