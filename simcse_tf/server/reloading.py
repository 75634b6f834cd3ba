"""Takes over a new config while the server runs: labels first, versions after."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simcse_tf.server import status_errors
from simcse_tf.server.loader import Loader
from simcse_tf.server.model_config import PLATFORM, ModelConfig

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2


class Reloading:
    """Replaces the configs of loaders by TF Serving's rule.

    TF Serving updates its labels before it looks for versions. So a config that lists
    a new version and moves a label to it is refused as a whole, also at each later
    try: the version comes first, and the label in a second config.

    Unlike TF Serving, it takes no other models and no other base paths than those of
    the start: a SavedModel is a program, and a client must not choose which one runs.

    Args:
        loaders: One for each model.

    Example:
    ```python
    Reloading(loaders).reload(text_config.read_models(Path("models.config")))
    ```
    """

    def __init__(self, loaders: Sequence[Loader]):
        self._loaders = {loader.config.name: loader for loader in loaders}

    def reload(self, config: "model_server_config_pb2.ModelServerConfig") -> None:
        """Takes over versions and labels, those of all models or none.

        Args:
            config: The whole config, as a `--model_config_file` has it.

        Raises:
            tf.errors.FailedPreconditionError: A label moves to a version that is not
                loaded, or models or base paths differ from those of the start.
            tf.errors.InvalidArgumentError: It is no list of models, or one of them is
                of another platform than TensorFlow.
        """
        if not config.HasField("model_config_list"):
            raise status_errors.invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        listed = config.model_config_list.config
        configs = {proto.name: ModelConfig.from_proto(proto) for proto in listed}
        if len(configs) < len(listed):
            raise status_errors.invalid("Each model may be listed once")
        for proto in listed:
            if proto.model_platform != PLATFORM:
                raise status_errors.invalid(
                    f'model_platform of model {proto.name}: expected "{PLATFORM}", '
                    f'received "{proto.model_platform}"'
                )
        self._check_models(configs)
        for name, loader in self._loaders.items():
            loader.check_labels(configs[name])
        for name, loader in self._loaders.items():
            loader.take(configs[name])

    def _check_models(self, configs: Mapping[str, ModelConfig]) -> None:
        if configs.keys() != self._loaders.keys():
            raise status_errors.failed_precondition(
                f"the models stay those of the start: expected {[*self._loaders]}, "
                f"received {[*configs]}"
            )
        for name, loader in self._loaders.items():
            if configs[name].base_path != loader.config.base_path:
                # Not the path of the start: clients are not told where files are.
                raise status_errors.failed_precondition(
                    f"the base path of model {name} stays that of the start, received "
                    f"{configs[name].base_path}"
                )
