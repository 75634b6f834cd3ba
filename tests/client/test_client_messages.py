"""The client's own messages: the same on the wire as TF Serving's; splitting; order."""

import asyncio
import itertools
import random
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from simcse_tf.client import Retry, counting, messages_pb2, protocol, responses
from simcse_tf.client.ordered_requests import ordered_requests
from simcse_tf.client.protocol import EMBEDDINGS, SIMILARITY
from simcse_tf.core.errors import UserError

TEXTS = st.lists(st.binary(max_size=20), max_size=20)
SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 6))
ARRAYS = st.builds(
    lambda shape, dtype, seed: (
        np.random.default_rng(seed).integers(0, 256, shape, np.uint8).astype(dtype)
    ),
    SHAPES,
    st.sampled_from(["float32", "int8", "uint8"]),
    st.integers(0, 2**32 - 1),
)
FEW = settings(max_examples=50, deadline=None)


def as_field(array: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor as TF Serving sends it: values in the dtype's own field."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(array.dtype).as_datatype_enum)
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    field = {"float32": "float_val", "bool": "bool_val"}.get(array.dtype.name)
    values = getattr(proto, field or "int_val")
    values.extend(array.ravel().tolist())
    return proto


def as_content(array: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor as our server sends other dtypes than float32."""
    return tensor_pb2.TensorProto.FromString(tf.io.serialize_tensor(array).numpy())


def response(name: str, proto: tensor_pb2.TensorProto, version: int = 5):
    """What the real stubs pack, as the client's class reads it."""
    real = predict_pb2.PredictResponse()
    real.outputs[name].CopyFrom(proto)
    real.model_spec.version.value = version
    return messages_pb2.PredictResponse.FromString(real.SerializeToString())


@FEW
@given(TEXTS, TEXTS, st.one_of(st.none(), st.integers(0, 2**63 - 1)), st.text())
def test_requests_read_the_same_with_the_real_stubs(texts, others, version, model):
    spec = messages_pb2.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    ours = protocol.predict_request(
        spec, SIMILARITY, {"text_a": texts, "text_b": others}
    )
    real = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert real.model_spec.name == model
    assert real.model_spec.signature_name == "similarity"
    assert real.model_spec.HasField("version") == (version is not None)
    assert real.model_spec.version.value == (version or 0)
    assert list(real.output_filter) == ["cosine_similarity"]
    assert real.inputs.keys() == {"text_a", "text_b"}
    for name, sent in (("text_a", texts), ("text_b", others)):
        expected = tf.make_tensor_proto(np.array(sent, object), tf.string)
        assert real.inputs[name] == expected


def test_a_label_reads_the_same_with_the_real_stubs():
    spec = messages_pb2.ModelSpec(name="simcse", version_label="canary")
    ours = messages_pb2.GetModelStatusRequest(model_spec=spec)
    real = get_model_status_pb2.GetModelStatusRequest.FromString(
        ours.SerializeToString()
    )
    assert real.model_spec.WhichOneof("version_choice") == "version_label"
    assert real.model_spec.version_label == "canary"


def test_a_spec_without_choice_leaves_the_choice_to_the_server():
    ours = messages_pb2.GetModelMetadataRequest(
        model_spec=messages_pb2.ModelSpec(name="simcse", version_label=None),
        metadata_field=["signature_def"],
    )
    real = get_model_metadata_pb2.GetModelMetadataRequest.FromString(
        ours.SerializeToString()
    )
    assert real.model_spec.WhichOneof("version_choice") is None
    assert list(real.metadata_field) == ["signature_def"]


@FEW
@given(ARRAYS, st.sampled_from([as_field, as_content]))
def test_arrays_arrive_as_the_real_stubs_packed_them(array, pack):
    output = next(it for it in EMBEDDINGS.values() if it.dtype == array.dtype)
    answer = responses.read_prediction(
        response(output.name, pack(array)), output, len(array)
    )
    assert answer.version == 5
    assert answer.array.dtype == array.dtype
    np.testing.assert_array_equal(answer.array, array)


@pytest.mark.parametrize("pack", [as_field, as_content])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_token_counts_arrive_as_the_real_stubs_packed_them(pack, rows):
    arrays = {
        "embedding": np.ones((rows, 2), np.float32),
        "tokens": np.arange(rows, dtype=np.int32) + 500,
        "truncated": np.arange(rows) % 2 == 1,
    }
    real = predict_pb2.PredictResponse()
    for name, array in arrays.items():
        real.outputs[name].CopyFrom(pack(array))
    read = messages_pb2.PredictResponse.FromString(real.SerializeToString())
    counted = counting.read_counted(read, rows, None)
    for received, sent in zip(counted, arrays.values(), strict=False):
        assert received.dtype == sent.dtype
        np.testing.assert_array_equal(received, sent)


def test_negative_numbers_arrive_in_the_integer_field():
    array = np.array([[-128, -1, 0, 127]], np.int8)
    read = response("embedding_int8", as_field(array)).outputs[0].value
    np.testing.assert_array_equal(responses.to_array(read), array)


def test_floats_of_every_kind_arrive_bit_by_bit():
    array = np.array([0.0, -0.0, np.inf, np.nan, 1e-45, 3e38], np.float32)
    read = response("embedding", as_field(array)).outputs[0].value
    assert responses.to_array(read).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("name", "array", "rows", "words"),
    [
        ("other", np.zeros((2, 3), np.float32), 2, "embedding from the server"),
        ("embedding", np.zeros((2, 3), np.float32), 3, "3 rows"),
        ("embedding", np.zeros((2, 3), np.int8), 2, "received int8"),
        ("embedding", np.zeros((2, 3), np.float64), 2, "dtype float64"),
        ("embedding", np.float32(1), 1, "shape \\(\\)"),
    ],
)
def test_an_answer_to_another_question_is_refused(name, array, rows, words):
    packed = response(name, tf.make_tensor_proto(array))
    with pytest.raises(UserError, match=words):
        responses.read_prediction(packed, EMBEDDINGS["float32"], rows)


def test_values_that_do_not_fill_the_shape_are_refused():
    proto = as_field(np.zeros((2, 3), np.float32))
    proto.float_val.pop()
    with pytest.raises(UserError, match="received 5"):
        responses.to_array(response("embedding", proto).outputs[0].value)


def test_names_of_types_and_states_are_tensorflows():
    for number, name in responses.DTYPES.items():
        assert tf.as_dtype(number).name == name
    states = get_model_status_pb2.ModelVersionStatus.State
    assert {number: name for name, number in states.items()} == responses.STATES


def test_status_and_metadata_read_what_the_real_stubs_packed():
    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=2, state=30).status.error_message = "x"
    status.model_version_status.add(version=1, state=50)
    ours = messages_pb2.GetModelStatusResponse.FromString(status.SerializeToString())
    assert responses.read_status(ours) == {2: "AVAILABLE", 1: "END"}

    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["text"].dtype = tf.string.as_datatype_enum
    signature.inputs["text"].tensor_shape.dim.add(size=-1)
    signature.outputs["embedding_bits"].dtype = tf.uint8.as_datatype_enum
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.signature_def["serving_binary"].CopyFrom(signature)
    signatures.signature_def["__saved_model_init_op"].CopyFrom(signature)
    real = get_model_metadata_pb2.GetModelMetadataResponse()
    real.metadata["signature_def"].Pack(signatures)
    ours = messages_pb2.GetModelMetadataResponse.FromString(real.SerializeToString())
    assert responses.read_metadata(ours) == {
        "serving_binary": {
            "inputs": {"text": {"dtype": "string", "shape": [-1]}},
            "outputs": {"embedding_bits": {"dtype": "uint8", "shape": []}},
        }
    }


@FEW
@given(st.lists(st.one_of(st.text(), st.binary())), st.integers(1, 10))
def test_batches_are_full_and_hold_every_text_once(texts, size):
    batches = list(protocol.batches(iter(texts), size))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)
    assert [*itertools.chain(*batches)] == [
        it.encode("utf-8", "surrogatepass") if isinstance(it, str) else it
        for it in texts
    ]


@FEW
@given(st.integers(0, 30), st.integers(1, 8), st.randoms())
def test_answers_keep_the_order_whichever_comes_first(count, concurrency, chance):
    running = most = 0

    async def question(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        running -= 1
        return number

    async def main():
        questions = (question(number) for number in range(count))
        calls = ordered_requests(questions, asyncio.ensure_future, concurrency)
        return [await call for call in calls]

    assert asyncio.run(main()) == list(range(count))
    assert most <= concurrency


@FEW
@given(
    st.integers(1, 80), st.floats(0, 10), st.floats(0, 10), st.integers(0, 2**32 - 1)
)
def test_pauses_stay_below_a_limit_that_doubles(attempts, first, longest, seed):
    random.seed(seed)
    retry = Retry(seconds=3600, attempts=attempts, first=first, longest=longest)
    pauses = list(retry.pauses(time.monotonic()))
    assert len(pauses) == attempts - 1
    for number, pause in enumerate(pauses):
        assert 0 <= pause <= min(longest, first * 2**number)


def test_pauses_are_drawn_over_their_whole_range():
    random.seed(0)
    pauses = [next(Retry(first=1.0).pauses(time.monotonic())) for _ in range(1000)]
    counts, _ = np.histogram(pauses, bins=4, range=(0, 1))
    assert counts.min() > 200


def test_pauses_end_with_the_time_for_retries():
    retry = Retry(seconds=10, first=100, longest=100)
    now = time.monotonic()
    assert all(next(retry.pauses(now - 9)) <= 1 for _ in range(100))
    assert list(retry.pauses(now - 11)) == []


def test_no_pause_passes_the_deadline():
    retry = Retry(first=1, longest=1)
    now = time.monotonic()
    drawn = [next(retry.pauses(now, now + 0.5), None) for _ in range(200)]
    pauses = [pause for pause in drawn if pause is not None]
    assert max(pauses) < 0.5
    assert 50 < len(pauses) < 150


@pytest.mark.parametrize(
    "numbers", [{"attempts": 0}, {"seconds": -1}, {"first": float("nan")}]
)
def test_impossible_retries_are_refused(numbers):
    with pytest.raises(UserError, match=next(iter(numbers))):
        Retry(**numbers)
