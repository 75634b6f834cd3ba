"""The requests to one model on a server, one request a call."""

from collections.abc import Mapping, Sequence

from simcse_tf.client import messages_pb2, protocol
from simcse_tf.client.connection import Connection
from simcse_tf.client.protocol import Answer, Output, Signatures
from simcse_tf.client.retry import Retry


class ModelStub:
    """What one model, or one version of it, can be asked.

    Every method takes `end`, the time by `time.monotonic()` at which it has to end, and
    raises `ServerError` where the server cannot be reached or answers with an error.

    Args:
        connection: How requests are sent.
        model: The model's name on the server.
        version: The model's version; by default the newest that is loaded.
        label: The version's label, in place of `version`.
    """

    def __init__(
        self, connection: Connection, model: str, version: int | None, label: str | None
    ):
        self._spec = messages_pb2.ModelSpec(name=model, version_label=label)
        if version is not None:
            self._spec.version.value = version
        self._predict = connection.method(
            protocol.PREDICT, messages_pb2.PredictResponse
        )
        self._get_status = connection.method(
            protocol.GET_MODEL_STATUS, messages_pb2.GetModelStatusResponse
        )
        self._get_metadata = connection.method(
            protocol.GET_MODEL_METADATA, messages_pb2.GetModelMetadataResponse
        )

    async def predict(
        self,
        output: Output,
        inputs: Mapping[str, Sequence[bytes]],
        end: float,
        retry: Retry | None = None,
    ) -> Answer:
        """Computes one output of a signature.

        Args:
            output: What is asked for.
            inputs: As many texts for each input of the signature, by name.
            end: See above.
            retry: In place of the connection's own.

        Returns:
            One row a text, and the version that answered.
        """
        request = protocol.predict_request(self._spec, output, inputs)
        response = await self._predict(request, end, retry)
        rows = len(next(iter(inputs.values())))
        return protocol.read_prediction(response, output, rows)

    async def status(self, end: float) -> dict[int, str]:
        """Returns the state of each version, by number."""
        request = messages_pb2.GetModelStatusRequest(model_spec=self._spec)
        return protocol.read_status(await self._get_status(request, end))

    async def metadata(self, end: float) -> Signatures:
        """Returns the signatures by name."""
        request = messages_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=[protocol.SIGNATURE_DEF]
        )
        return protocol.read_metadata(await self._get_metadata(request, end))
