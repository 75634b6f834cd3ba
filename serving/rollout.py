"""Moves a label to another version: a canary, a promotion, a rollback.

TF Serving updates its labels before it looks for versions, so one edit of
`models.config` that lists a version and moves a label to it is refused for ever. This
script makes the two edits, and waits for each on every server:

1. lists the version, if it is not listed, and waits until it is AVAILABLE;
2. asks the version itself for embeddings, and compares their length with 1;
3. moves the label, and waits until it answers with that version, and the same numbers.

What fails is taken back: the file is what it was, and the exit code is 1.

    python serving/rollout.py --target HOST:8500 label canary 2
    python serving/rollout.py --target HOST:8500 label stable 2
    python serving/rollout.py --target HOST:8500 unlist 1
    python serving/rollout.py --target HOST:8500 status
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from simcse_tf.client import Tls
from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.token_file import read_token
from simcse_tf.server.config_edit import EditableConfig
from simcse_tf.server.text_config import read_models

PROBES = ["A man is playing a guitar.", "", "naïve façade"]
POLL_SECONDS = 0.5
TOLD_SECONDS = 10.0
CALL_SECONDS = 30.0
# Two batches of other sizes differ in the last bits, and in half precision in more.
SAME = 1e-2
State = get_model_status_pb2.ModelVersionStatus.State


class Failed(Exception):
    """A step did not come to its end."""


class Unreachable(Failed):
    """A server does not answer now; it may soon."""


class Server:
    """One server: its versions, and what they answer.

    Args:
        channel: A gRPC channel.
        target: Its name in messages.
        model: The model's name.
        headers: Sent with every request.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        target: str,
        model: str,
        headers: Sequence[tuple[str, str]],
    ):
        self.target = target
        self._model = model
        self._sent = {"timeout": CALL_SECONDS, "metadata": headers}
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def states(self) -> dict[int, Any]:
        """The status of each version; none where the model is not known.

        Raises:
            Unreachable: The server does not answer.
        """
        request = get_model_status_pb2.GetModelStatusRequest(
            model_spec=model_pb2.ModelSpec(name=self._model)
        )
        try:
            response = self._models.GetModelStatus(request, **self._sent)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return {}
            raise Unreachable(f"{self.target}: {error.details()}") from None
        return {it.version: it for it in response.model_version_status}

    def embeddings(self, **which: Any) -> tuple[int, np.ndarray]:
        """The version that answers, and what it makes of a few texts.

        Args:
            **which: `version`, or `version_label`.

        Raises:
            Failed: It does not answer, or not with embeddings of unit length.
        """
        spec = model_pb2.ModelSpec(name=self._model)
        if "version" in which:
            spec.version.value = which["version"]
        else:
            spec.version_label = which["version_label"]
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.inputs["text"].CopyFrom(tf.make_tensor_proto(PROBES))
        try:
            response = self._predictions.Predict(request, **self._sent)
        except grpc.RpcError as error:
            raise Failed(f"{self.target}: {which}: {error.details()}") from None
        rows = tf.make_ndarray(response.outputs["embedding"])
        lengths = np.linalg.norm(rows.astype(np.float64), axis=-1)
        if rows.shape[:1] != (len(PROBES),) or not np.allclose(lengths, 1, atol=1e-3):
            raise Failed(
                f"{self.target}: {which}: expected {len(PROBES)} embeddings of unit "
                f"length, received shape {rows.shape}, lengths {lengths}"
            )
        return response.model_spec.version.value, rows

    def version_of(self, label: str) -> int | None:
        """The version that answers for a label; None where there is none."""
        try:
            return self.embeddings(version_label=label)[0]
        except Failed:
            return None

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Sends it a config, so that it need not wait for its next look at the file.

        Raises:
            Failed: It refuses the config.
        """
        request = model_management_pb2.ReloadConfigRequest(config=config)
        try:
            self._models.HandleReloadConfigRequest(request, **self._sent)
        except grpc.RpcError as error:
            raise Failed(f"{self.target}: {error.details()}") from None


class Rollout:
    """Edits of the file, each followed on every server.

    Args:
        config: The file.
        servers: Those that read it, or are sent it.
        timeout: Seconds that one step may take.
        send: Whether each edit is sent to the servers.
        apply: A command to run after each edit, such as `kubectl apply -k serving`.
    """

    def __init__(
        self,
        config: EditableConfig,
        servers: Sequence[Server],
        timeout: float,
        send: bool,
        apply: str | None,
    ):
        self._config = config
        self._servers = servers
        self._timeout = timeout
        self._send = send
        self._apply = apply

    def show(self) -> None:
        """Prints each version's state, and what each label answers with."""
        for server in self._servers:
            for number, status in sorted(server.states().items()):
                print(f"{server.target} version {number} {State.Name(status.state)}")
            for label in self._config.labels:
                print(f"{server.target} label {label} {server.version_of(label)}")

    def move(self, label: str, version: int) -> None:
        """Lets a label name a version, which is loaded first.

        Raises:
            Failed: It did not come to that; the file is what it was.
        """
        versions, labels = self._config.versions, self._config.labels
        try:
            if version not in versions:
                versions = sorted([*versions, version])
                self._publish(self._config.edited(versions, labels))
            self._wait(f"version {version}", self._available(version))
            for server in self._servers:
                server.embeddings(version=version)
            labels[label] = version
            self._publish(self._config.edited(versions, labels))
            self._wait(f"label {label}", lambda it: it.version_of(label) == version)
            for server in self._servers:
                self._check_same(server, label, version)
        except (Failed, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            self._take_back()
            raise Failed(f"{why}; {self._config.path} is what it was") from None
        print(f"{label} is version {version} on {len(self._servers)} server(s)")

    def unlist(self, version: int) -> None:
        """Has a version unloaded.

        Raises:
            UserError: A label names it, or it is the last.
            Failed: It is still loaded.
        """
        left = [it for it in self._config.versions if it != version]
        labels = self._config.labels
        named = [label for label, it in labels.items() if it == version]
        if named or not left:
            what = f"label {named[0]}" if named else "no other version"
            raise UserError(
                f"{self._config.path}: expected a version that can go, received "
                f"{version}: {what} {'names it' if named else 'is listed'}"
            )
        self._publish(self._config.edited(left, labels))
        self._wait(f"the end of version {version}", self._gone(version))
        print(f"version {version} is not loaded any more")

    def _publish(self, text: str) -> None:
        with atomic_write(self._config.path) as temporary:
            temporary.write_text(text, "utf-8")
        if self._apply:
            ended = subprocess.run(self._apply, shell=True)
            if ended.returncode:
                raise Failed(f"--apply: exit code {ended.returncode}")
        if self._send:
            config = read_models(self._config.path)
            for server in self._servers:
                server.reload(config)

    def _take_back(self) -> None:
        try:
            self._publish(self._config.text)
        except Failed as error:
            # The others go on: the file counts, and they will read it.
            print(f"rollout: taking it back: {error}", file=sys.stderr)

    def _wait(self, what: str, reached: Callable[[Server], bool]) -> None:
        start = told = time.monotonic()
        left = list(self._servers)
        while left := [server for server in left if not _is(reached, server)]:
            now = time.monotonic()
            names = ", ".join(server.target for server in left)
            if now - start > self._timeout:
                raise Failed(f"{what}: not after {self._timeout:g} s on {names}")
            if now - told >= TOLD_SECONDS:
                print(f"{what}: {now - start:.0f} s, waiting for {names}", flush=True)
                told = now
            time.sleep(POLL_SECONDS)

    def _available(self, version: int) -> Callable[[Server], bool]:
        known = {
            server: _failure(server.states().get(version)) for server in self._servers
        }

        def available(server: Server) -> bool:
            status = server.states().get(version)
            failure = _failure(status)
            # One of an earlier try is no news.
            if failure and failure != known[server]:
                raise Failed(f"{server.target}: version {version}: {failure}")
            known[server] = failure
            return status is not None and status.state == State.AVAILABLE

        return available

    def _gone(self, version: int) -> Callable[[Server], bool]:
        def gone(server: Server) -> bool:
            status = server.states().get(version)
            return status is None or status.state == State.END

        return gone

    def _check_same(self, server: Server, label: str, version: int) -> None:
        _, by_label = server.embeddings(version_label=label)
        _, by_number = server.embeddings(version=version)
        if by_label.shape != by_number.shape or not np.allclose(
            by_label, by_number, atol=SAME
        ):
            raise Failed(f"{server.target}: {label} answers unlike version {version}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one step of a rollout.

    Args:
        argv: The arguments; `sys.argv` without the program's name by default.
    """
    arguments = _parser().parse_args(argv)
    config = EditableConfig(arguments.config, arguments.model)
    with _connected(arguments) as servers:
        rollout = Rollout(
            config, servers, arguments.timeout, arguments.send, arguments.apply
        )
        try:
            if arguments.command == "status":
                rollout.show()
            elif arguments.command == "label":
                rollout.move(arguments.label, arguments.version)
            else:
                rollout.unlist(arguments.version)
        except Failed as error:
            print(f"rollout: {error}", file=sys.stderr)
            raise SystemExit(1) from None


@contextmanager
def _connected(arguments: argparse.Namespace) -> Iterator[list[Server]]:
    headers, credentials = [], None
    if arguments.token_file:
        token = read_token(arguments.token_file, "--token-file")
        headers = [("authorization", f"Bearer {token}")]
    if arguments.tls:
        credentials = Tls(arguments.ca, arguments.cert, arguments.key).credentials()
    options = [("grpc.enable_http_proxy", 0)]
    with ExitStack() as stack:
        servers = []
        for target in arguments.target:
            if credentials:
                channel = grpc.secure_channel(target, credentials, options)
            else:
                channel = grpc.insecure_channel(target, options)
            stack.enter_context(channel)
            servers.append(Server(channel, target, arguments.model, headers))
        yield servers


def _is(reached: Callable[[Server], bool], server: Server) -> bool:
    try:
        return reached(server)
    except Unreachable:
        return False


def _failure(status: Any) -> str:
    """Why a version could not be loaded; empty if it could, or nobody has tried."""
    if status is None or not status.status.error_code:
        return ""
    return status.status.error_message or "it cannot be loaded"


def _parser() -> Parser:
    parser = Parser(
        "rollout.py",
        description="Moves labels between the versions that servers have loaded.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="print versions, states and labels")
    label = commands.add_parser("label", help="let LABEL name VERSION, loaded first")
    label.add_argument("label", metavar="LABEL")
    label.add_argument("version", metavar="VERSION", type=int)
    unlist = commands.add_parser("unlist", help="have VERSION unloaded")
    unlist.add_argument("version", metavar="VERSION", type=int)
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        action="append",
        required=True,
        help="a server's gRPC port; once for each server",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(__file__).with_name("models.config"),
        help="the servers' --model_config_file (default: serving/models.config)",
    )
    parser.add_argument("--model", default="simcse", help="default: simcse")
    parser.add_argument(
        "--send",
        action="store_true",
        help="send each edit to the servers, in place of waiting until they read it",
    )
    parser.add_argument(
        "--apply",
        metavar="COMMAND",
        help="run after each edit of the file, such as 'kubectl apply -k serving'",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=600,
        help="the most for one step (default: 600)",
    )
    parser.add_argument("--token-file", metavar="FILE", type=Path)
    parser.add_argument("--tls", action="store_true", help="encrypt the connections")
    for name, what in (("ca", "authorities"), ("cert", "client"), ("key", "client")):
        parser.add_argument(f"--{name}", metavar="FILE", help=f"TLS, PEM: {what}")
    return parser


if __name__ == "__main__":
    run(main)
