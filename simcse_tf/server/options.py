"""What a server is told on its command line. Needs no TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.model_config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """What `run.run` serves, and how.

    Args:
        models: One at least.
        host: Name or address to listen on.
        port: Port for gRPC; 0 takes any free one.
        rest_port: Port for REST; 0 is none.
        batching: None computes each request by itself.
        metrics_path: Where the REST port shows metrics; None for nowhere.
        ssl: An `SSLConfig`; None serves without TLS.
        token: What clients have to send; None lets everybody ask.
        poll_seconds: How often the base directories are looked at; 0 is once.
        model_config_file: What `models` came from.
        model_config_poll_seconds: How often that file is read again; 0 is once.
        labels_for_unavailable_models: Whether a label may be of a version that is
            not loaded.
        intra_op_threads: TensorFlow's threads within an op; 0 for one a CPU.
        inter_op_threads: TensorFlow's threads between ops; 0 for one a CPU.
    """

    models: tuple[ModelConfig, ...]
    host: str
    port: int
    rest_port: int = 0
    batching: BatchingParameters | None = None
    metrics_path: str | None = None
    ssl: Any = None
    token: str | None = None
    poll_seconds: float = 1.0
    model_config_file: Path | None = None
    model_config_poll_seconds: float = 0.0
    labels_for_unavailable_models: bool = False
    intra_op_threads: int = 0
    inter_op_threads: int = 0
