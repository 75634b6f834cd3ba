"""The Python server: TF Serving's protocol over a real process on loopback."""

import asyncio
import gc
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import (
    CALL_SECONDS,
    DIM,
    MIXED_TEXTS,
    START_SECONDS,
    VERSION,
    assert_one_line_mistake,
    environment,
    open_stubs,
    predict_request,
    run_here,
    running_server,
)
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from simcse_tf import serve
from simcse_tf.core.errors import UserError


@pytest.fixture(scope="module")
def server(base_path):
    with running_server(base_path) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server):
    with open_stubs(server.target) as stubs:
        yield stubs


@pytest.fixture(scope="module")
def model(base_path):
    return tf.saved_model.load(str(base_path / str(VERSION)))


def predict(stubs, *args, timeout=CALL_SECONDS, **kwargs):
    return stubs.predictions.Predict(predict_request(*args, **kwargs), timeout=timeout)


def refusal(call, *args, **kwargs) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


@pytest.mark.slow
def test_announces_name_version_directory_and_address(server, base_path):
    port = server.target.rpartition(":")[2]
    assert server.announcement == (
        f"Serving simcse version 3 from {base_path} at 127.0.0.1:{port}"
    )


def test_embeddings_equal_those_computed_in_process(stubs, model):
    expected = model.signatures["serving_default"](text=tf.constant(MIXED_TEXTS))
    response = predict(stubs, text=MIXED_TEXTS)
    np.testing.assert_array_equal(
        tf.make_ndarray(response.outputs["embedding"]), expected["embedding"]
    )
    assert response.outputs["embedding"].dtype == types_pb2.DT_FLOAT


def test_similarities_equal_those_computed_in_process(stubs, model):
    other = MIXED_TEXTS[::-1]
    expected = model.signatures["similarity"](
        text_a=tf.constant(MIXED_TEXTS), text_b=tf.constant(other)
    )
    response = predict(stubs, "similarity", text_a=MIXED_TEXTS, text_b=other)
    scores = tf.make_ndarray(response.outputs["cosine_similarity"])
    np.testing.assert_array_equal(scores, expected["cosine_similarity"])


def test_floats_come_where_clients_without_tensorflow_look(stubs):
    output = predict(stubs, text=["a", "b"]).outputs["embedding"]
    assert len(output.float_val) == 2 * DIM
    assert [dim.size for dim in output.tensor_shape.dim] == [2, DIM]


def test_no_texts_give_no_embeddings(stubs):
    empty = tf.make_tensor_proto([], tf.string, shape=[0])
    output = predict(stubs, text=empty).outputs["embedding"]
    assert tf.make_ndarray(output).shape == (0, DIM)


def test_one_request_may_hold_a_whole_batch_of_long_texts(stubs, model):
    texts = [f"sentence number {i} " * 6_000 for i in range(64)]  # about 7 MB
    expected = model.signatures["serving_default"](text=tf.constant(texts))
    response = predict(stubs, text=texts)
    np.testing.assert_array_equal(
        tf.make_ndarray(response.outputs["embedding"]), expected["embedding"]
    )


def test_request_larger_than_a_batch_is_refused(stubs):
    code, details = refusal(predict, stubs, text=["a"] * 65)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details == "Task size 65 is larger than maximum input batch size 64"


def test_scalars_cannot_be_batched(stubs):
    code, details = refusal(predict, stubs, "half", x=1.0)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "at least one dimension" in details


def test_strings_may_come_as_tensor_content(stubs):
    # TensorFlow's own layout: the lengths as varints, then the bytes.
    content = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_content=b"\x03\x05" + b"one" + b"three"
    )
    content.tensor_shape.dim.add(size=2)
    plain = predict(stubs, text=["one", "three"])
    assert predict(stubs, text=content) == plain


def test_one_value_may_stand_for_many(stubs):
    repeated = tf.make_tensor_proto("same", shape=[3])
    assert len(repeated.string_val) == 1
    assert predict(stubs, text=repeated) == predict(stubs, text=["same"] * 3)


def test_response_says_what_was_used(stubs):
    spec = predict(stubs, text=["a"]).model_spec
    assert (spec.name, spec.version.value) == ("simcse", VERSION)
    assert spec.signature_name == "serving_default"
    spec = predict(stubs, "lengths", version=VERSION, text=["a"]).model_spec
    assert spec.signature_name == "lengths"


def test_output_filter_selects_outputs(stubs):
    everything = predict(stubs, "lengths", text=["é"])
    assert set(everything.outputs) == {"bytes", "characters"}
    filtered = predict(stubs, "lengths", outputs=["characters"], text=["é"])
    assert set(filtered.outputs) == {"characters"}
    assert tf.make_ndarray(filtered.outputs["characters"]).tolist() == [1]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (["nope"], ["{nope}", "{bytes, characters}"]),
        (["bytes", "bytes"], ["duplicate"]),
    ],
)
def test_wrong_output_filter_is_refused(stubs, outputs, words):
    code, details = refusal(predict, stubs, "lengths", outputs=outputs, text=["a"])
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert all(word in details for word in words)


def test_unknown_model_and_version_are_not_found(stubs):
    code, details = refusal(predict, stubs, name="bert", text=["a"])
    assert code == grpc.StatusCode.NOT_FOUND
    assert details == "Servable not found for request: Latest(bert)"
    code, details = refusal(predict, stubs, version=2, text=["a"])
    assert code == grpc.StatusCode.NOT_FOUND
    assert details == "Servable not found for request: Specific(simcse, 2)"


def test_model_spec_without_name_or_with_label_is_refused(stubs):
    call = stubs.predictions.Predict
    code, details = refusal(call, predict_pb2.PredictRequest())
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    code, details = refusal(predict, stubs, name="", text=["a"])
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "no name" in details
    request = predict_request(text=["a"])
    request.model_spec.version_label = "stable"
    code, details = refusal(call, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "stable" in details


def test_unknown_signature_is_a_failed_precondition(stubs):
    code, details = refusal(predict, stubs, "rank", text=["a"])
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert 'Serving signature key "rank" not found' in details
    assert "similarity" in details


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["missing {text}"]),
        ({"text": ["a"], "lang": ["en"]}, ["extra {lang}"]),
        ({"texts": ["a"]}, ["expected {text}", "received {texts}"]),
        ({"text": [1.0]}, ['"text"', "expected string", "received float32"]),
        ({"text": "a"}, ["shape (None,)", "received shape ()"]),
        ({"text": [["a"], ["b"]]}, ["shape (None,)", "received shape (2, 1)"]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(stubs, inputs, words):
    code, details = refusal(predict, stubs, **inputs)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert all(word in details for word in words), details


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ([-1], {"string_val": [b"a"]}),
        ([2], {"tensor_content": b"\xff\xff\xff"}),
        ([2**62], {"string_val": [b"a"]}),
        ([10**9], {"string_val": [b"a"]}),
    ],
)
def test_malformed_tensor_is_refused(stubs, shape, values):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    code, details = refusal(predict, stubs, text=proto)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "malformed" in details


@pytest.mark.parametrize("dtype", [0, 999])
def test_unknown_dtype_is_refused(stubs, dtype):
    code, details = refusal(predict, stubs, text=tensor_pb2.TensorProto(dtype=dtype))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"received dtype {dtype}" in details


def test_failure_in_the_graph_keeps_its_code_and_message(stubs, tmp_path):
    path = str(tmp_path / "nothing")
    code, details = refusal(predict, stubs, "read", path=[path])
    assert code == grpc.StatusCode.NOT_FOUND
    assert details.startswith(path)
    code, details = refusal(
        predict, stubs, "similarity", text_a=["a"] * 2, text_b=["b"] * 3
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "equal 0th-dimension" in details


def test_long_details_are_cut_to_what_clients_accept(stubs):
    code, details = refusal(predict, stubs, "🎸" * 100_000, text=["a"])
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert len(details.encode()) <= 1024


def test_any_other_exception_is_internal():
    from simcse_tf.server.grpc_service import to_status

    code, details = to_status(ZeroDivisionError("by zero"))
    assert (code, details) == (
        grpc.StatusCode.INTERNAL,
        "ZeroDivisionError: the server's log says more",
    )


def test_configs_of_strangers_are_refused():
    from simcse_tf.server.catalog import Catalog
    from simcse_tf.server.grpc_service import ModelServer

    service = ModelServer(Catalog())
    asked = service.reload(model_management_pb2.ReloadConfigRequest(), None)
    with pytest.raises(tf.errors.PermissionDeniedError, match="--token_file"):
        asyncio.run(asked)


def test_what_is_no_list_of_models_is_refused(stubs):
    code, details = refusal(
        stubs.models.HandleReloadConfigRequest,
        model_management_pb2.ReloadConfigRequest(),
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "Only ModelConfigList is currently supported" in details


@pytest.mark.parametrize(
    "method",
    [
        "PredictionService/Predict",
        "PredictionService/GetModelMetadata",
        "ModelService/GetModelStatus",
    ],
)
def test_bytes_that_are_no_request_are_an_internal_error(stubs, method):
    call = stubs.channel.unary_unary(f"/tensorflow.serving.{method}")
    code, _ = refusal(call, b"\xff\xff\xff", timeout=CALL_SECONDS)
    assert code == grpc.StatusCode.INTERNAL  # as TF Serving's C++ server says
    assert predict(stubs, text=["a"]).outputs


def status_request(name="simcse", version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


@pytest.mark.parametrize("version", [None, VERSION])
def test_status_of_the_loaded_version_is_available(stubs, version):
    response = stubs.models.GetModelStatus(status_request(version=version))
    [status] = response.model_version_status
    assert status.version == VERSION
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert status.status.error_code == 0


def test_status_of_anything_else_is_not_found(stubs):
    call = stubs.models.GetModelStatus
    code, details = refusal(call, status_request(version=9))
    assert code == grpc.StatusCode.NOT_FOUND
    assert details == "Could not find version 9 of model simcse"
    code, _ = refusal(call, status_request("bert"))
    assert code == grpc.StatusCode.NOT_FOUND
    code, _ = refusal(call, get_model_status_pb2.GetModelStatusRequest())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    request = status_request()
    request.model_spec.version_label = "stable"
    code, _ = refusal(call, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def metadata_request(name="simcse", fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_metadata_holds_the_signatures_of_the_saved_model(stubs):
    response = stubs.predictions.GetModelMetadata(metadata_request())
    assert response.model_spec.version.value == VERSION
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["text"].dtype == types_pb2.DT_STRING
    shape = signature.outputs["embedding"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, DIM]


def test_metadata_of_anything_else_is_refused(stubs):
    call = stubs.predictions.GetModelMetadata
    code, _ = refusal(call, metadata_request("bert"))
    assert code == grpc.StatusCode.NOT_FOUND
    code, _ = refusal(call, metadata_request(fields=()))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    code, details = refusal(call, metadata_request(fields=["graph"]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "graph" in details


def test_many_clients_at_once_get_their_own_answers(stubs, model):
    texts = [[f"client {i}", f"text {i}"] for i in range(64)]
    with ThreadPoolExecutor(64) as threads:
        responses = list(threads.map(lambda text: predict(stubs, text=text), texts))
    for text, response in zip(texts, responses, strict=True):
        expected = model.signatures["serving_default"](text=tf.constant(text))
        np.testing.assert_array_equal(
            tf.make_ndarray(response.outputs["embedding"]), expected["embedding"]
        )


def test_status_is_answered_while_every_thread_is_busy(stubs):
    request = predict_request("busy", seconds=np.array([1.5]))
    running = [stubs.predictions.Predict.future(request) for _ in range(40)]
    try:
        stubs.models.GetModelStatus(status_request(), timeout=1.0)
        assert not all(call.done() for call in running)
    finally:
        for call in running:
            call.cancel()


def test_clients_that_give_up_do_not_disturb_others(stubs):
    code, _ = refusal(predict, stubs, "busy", timeout=0.2, seconds=np.array([1.0]))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    call = stubs.predictions.Predict.future(
        predict_request("busy", seconds=np.array([1.0]))
    )
    call.cancel()
    assert predict(stubs, text=["a"]).outputs


@pytest.mark.slow
def test_ctrl_c_lets_a_running_request_finish(base_path):
    # SIGTERM is tested with the REST server.
    with running_server(base_path, "--model_name", "other") as server:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(server.target, options) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(predict_request(name="other", text=["a"]), timeout=10)
            request = predict_request("busy", name="other", seconds=np.array([1.0]))
            running = stub.Predict.future(request, timeout=CALL_SECONDS)
            time.sleep(0.4)
            server.process.send_signal(signal.SIGINT)
            passed = running.result().outputs["passed"]
        assert tf.make_ndarray(passed) >= 1.0
        assert server.process.wait(timeout=10) == 0
        assert server.process.stderr.read() == ""


# `make lint` asks the same of each import; this asks a process.
@pytest.mark.attack
def test_server_needs_no_training_code():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, simcse_tf.serve, simcse_tf.server.run, simcse_tf.server.rest\n"
            "print([name for name in sys.modules"
            " if name.startswith(('keras_hub', 'keras_nlp', 'simcse_tf.'))])",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    )
    loaded = set(eval(done.stdout))
    parts = ("simcse_tf.server", "simcse_tf.core", "simcse_tf.openai_api")
    others = {name for name in loaded if not name.startswith(parts)}
    # The last for the OpenAI API's `dimensions`, with NumPy alone.
    assert others == {"simcse_tf.serve", "simcse_tf.version", "simcse_tf.quantization"}


def write_warmup(path: Path, *records: bytes) -> Path:
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    return file


def prediction_log(request: predict_pb2.PredictRequest) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    return log.SerializeToString()


@pytest.fixture
def version_path(base_path, tmp_path):
    """A version directory of the test's own."""
    return shutil.copytree(base_path / str(VERSION), tmp_path / str(VERSION))


@pytest.fixture
def servable(version_path):
    from simcse_tf.server.servable import Servable

    with ThreadPoolExecutor(1) as executor:
        yield Servable(VERSION, version_path, None, executor)


def test_every_warmup_request_is_run(servable, monkeypatch):
    from simcse_tf.server import warmup

    requests = [predict_request(text=[text]) for text in ("a", "b")]
    write_warmup(servable.path, *map(prediction_log, requests))
    run = []
    monkeypatch.setattr(servable, "run_alone", lambda it: run.append(it) or {})
    assert warmup.replay(servable) == 2
    assert run == requests


def test_model_without_warmup_requests_is_served(servable):
    from simcse_tf.server import warmup

    assert warmup.replay(servable) == 0


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (prediction_log(predict_request(text=[1.0])), "received float32"),
        (prediction_log_pb2.PredictionLog().SerializeToString(), "Predict request"),
        (b"\xff\xff\xff", "warmup requests"),
    ],
    ids=["refused by the model", "not a prediction", "not a log"],
)
def test_warmup_request_that_fails_is_a_mistake(servable, record, word):
    from simcse_tf.server import warmup

    file = write_warmup(servable.path, record)
    with pytest.raises(UserError, match=word) as caught:
        warmup.replay(servable)
    assert str(file) in str(caught.value)


def test_damaged_warmup_file_stops_the_start(version_path, monkeypatch, capsys):
    file = write_warmup(version_path, b"")
    file.write_bytes(b"this is not a TFRecord file")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(gc, "freeze", lambda: None)
    # TensorFlow has its threads in this process.
    monkeypatch.setattr(tf.config, "threading", Mock())
    flags = ("--model_base_path", version_path.parent, "--port", "0")
    assert_one_line_mistake(run_here(serve.main, capsys, *flags), str(file))


def test_damaged_model_is_a_mistake(tmp_path):
    from simcse_tf.server.servable import Servable

    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(UserError, match="cannot load the SavedModel") as caught:
        Servable(1, tmp_path / "1", None, ThreadPoolExecutor(1))
    assert str(tmp_path / "1") in str(caught.value)
