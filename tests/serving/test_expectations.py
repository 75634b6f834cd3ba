"""What a real TF Serving 2.20 answered, request by request, in `expectations.json`.

A row is a request, what TF Serving answers, and, where the Python server answers
otherwise on purpose, what that is and why. The server that is asked has to answer as
its kind does. Where nobody has asked a real one yet, `read_in` names TF Serving's code
that the answer was read in.
"""

import http.client
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from support.servers import CALL_SECONDS, open_stubs
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

# Its own server needs an export of a real model, which takes seconds.
pytestmark = pytest.mark.slow

ROWS = json.loads(Path(__file__).with_name("expectations.json").read_text())
REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


def over_rest(target, row):
    if target.rest is None:
        pytest.skip("no REST address (--rest-target)")
    asked = row["rest"]
    connection = http.client.HTTPConnection(target.rest, timeout=CALL_SECONDS)
    try:
        path = asked["path"].replace("{model}", target.model)
        connection.request(asked["method"], path, asked.get("body"))
        response = connection.getresponse()
        return {"status": response.status, "message": response.read().decode()}
    finally:
        connection.close()


def over_grpc(target, row):
    method = row["grpc"]["method"]
    text = json.dumps(row["grpc"]["request"]).replace("{model}", target.model)
    request = json_format.Parse(text, REQUESTS[method.rpartition("/")[2]]())
    with open_stubs(target.grpc) as stubs:
        call = stubs.channel.unary_unary(f"/{method}")
        try:
            call(request.SerializeToString(), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details()}
    return {"code": "OK", "message": ""}


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_server_answers_as_its_kind(target, row):
    answer = (over_rest if "rest" in row else over_grpc)(target, row)
    expected = dict(row.get(target.kind, row["tf_serving"]))
    assert expected.pop("message", "") in answer["message"]
    assert expected.items() <= answer.items(), answer


def test_each_difference_has_its_reason():
    for row in ROWS:
        assert ("python" in row) == bool(row.get("why")), row["id"]
        assert row.get("python") != row["tf_serving"], row["id"]
