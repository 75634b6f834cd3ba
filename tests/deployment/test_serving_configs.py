"""What an operator touches in serving/: each file is right, and they fit together."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.servers import (
    export,
    free_port,
    open_stubs,
    predict_request,
    running_server,
)

from simcse_tf.server import text_config

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "serving"
GRPC, REST = 8500, 8501
DNS_SECONDS = 30  # gRPC looks addresses up no more often


def documents(name):
    return list(yaml.safe_load_all((SERVING / name).read_text()))


@pytest.fixture(scope="module")
def models():
    return text_config.read_models(SERVING / "models.config")


@pytest.fixture(scope="module")
def batching():
    return text_config.read_batching(SERVING / "batching.config")


@pytest.fixture(scope="module")
def monitoring():
    return text_config.read_monitoring(SERVING / "monitoring.config")


@pytest.fixture(scope="module")
def dockerfile():
    """The Dockerfile with its continued lines joined."""
    return re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def command(dockerfile):
    """The command line of the image."""
    [entrypoint] = re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.M)
    return yaml.safe_load(entrypoint)


@pytest.fixture(scope="module")
def flags(command):
    return dict(flag.removeprefix("--").split("=", 1) for flag in command[1:])


@pytest.fixture(scope="module")
def compose():
    [document] = documents("docker-compose.yml")
    return document


@pytest.fixture(scope="module")
def kustomization():
    [document] = documents("kustomization.yaml")
    return document


@pytest.fixture(scope="module")
def objects(kustomization):
    """Kubernetes' objects by kind and name."""
    found = [it for name in kustomization["resources"] for it in documents(name)]
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


@pytest.fixture(scope="module")
def pod(objects):
    return objects["Deployment", "simcse"]["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod):
    [container] = pod["spec"]["containers"]
    return container


# TF Serving's own files


def test_models_config_labels_versions_that_it_serves(models):
    [model] = models.model_config_list.config
    assert (model.name, model.model_platform) == ("simcse", "tensorflow")
    served = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) == served


@pytest.mark.parametrize("name", ["batching.config", "monitoring.config"])
def test_both_servers_have_the_same_defaults(name):
    ours = ROOT / "simcse_tf" / "server" / name
    assert ours.read_text() == (SERVING / name).read_text()


def test_queue_and_threads_hold_as_many_clients_as_the_server_takes(batching, flags):
    threads = int(flags["grpc_max_threads"])
    assert batching.max_batch_size * batching.max_enqueued_batches >= threads
    # Fewer would never fill a batch while another is computed.
    assert threads >= 2 * batching.max_batch_size


def test_monitoring_config_turns_prometheus_on(monitoring):
    assert monitoring.prometheus_config.enable


def test_ssl_example_can_be_read_and_holds_no_key():
    config = text_config.read_ssl(SERVING / "ssl.config.example")
    assert config.client_verify
    for text in (config.server_key, config.server_cert, config.custom_ca):
        assert re.fullmatch(r"-----BEGIN (.+)-----\n\.\.\.\n-----END \1-----\n", text)


# The image


def test_image_has_the_model_where_its_config_looks(dockerfile, models):
    [model] = models.model_config_list.config
    assert f"COPY ${{MODEL_DIR}} {model.base_path}\n" in dockerfile


def test_flags_name_files_that_the_image_and_kubernetes_bring(flags, kustomization):
    named = {value for value in flags.values() if value.startswith("/config/")}
    names = {Path(value).name for value in named}
    assert names == {path.name for path in SERVING.glob("*.config")}
    generated = [
        it for map_ in kustomization["configMapGenerator"] for it in map_["files"]
    ]
    assert set(generated) == names | {"probe.sh"}


def test_ports_are_the_same_everywhere(dockerfile, flags, compose, container, objects):
    assert (int(flags["port"]), int(flags["rest_api_port"])) == (GRPC, REST)
    assert f"EXPOSE {GRPC} {REST}\n" in dockerfile
    # Nobody is asked who they are, so other machines are kept out.
    assert compose["services"]["serving"]["ports"] == [
        f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)
    ]
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}
    assert ports == {"grpc": GRPC, "http": REST}
    for name in ("simcse", "simcse-pods"):
        for port in objects["Service", name]["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]


def test_probe_is_the_same_everywhere(dockerfile, compose, container, models):
    [model] = models.model_config_list.config
    probe = ["bash", "/config/probe.sh", model.name, str(REST)]
    [healthcheck] = re.findall(r"^HEALTHCHECK .*?CMD (.+)$", dockerfile, re.M)
    assert yaml.safe_load(healthcheck) == probe
    assert compose["services"]["serving"]["healthcheck"]["test"] == ["CMD", *probe]
    for kind in ("startupProbe", "readinessProbe"):
        assert container[kind]["exec"]["command"] == probe


def test_build_sends_what_the_image_copies():
    wanted = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"!exports", "!serving/**/*.config", "!serving/probe.sh"} <= set(wanted)


# Compose


def test_compose_runs_what_the_image_runs(compose, command, dockerfile):
    serving = compose["services"]["serving"]
    assert serving["entrypoint"] == command
    [version] = re.findall(r"^ARG TF_SERVING_VERSION=(\S+)$", dockerfile, re.M)
    assert serving["image"] == f"tensorflow/serving:{version}"


def test_compose_mounts_files_that_exist_where_they_are_read(compose, models):
    [model] = models.model_config_list.config
    mounts = [
        mount.removesuffix(":ro").rsplit(":", 1)
        for service in compose["services"].values()
        for mount in service["volumes"]
    ]
    sources = {target: source for source, target in mounts}
    assert sources["/config"] == "."
    assert sources[model.base_path] == "${MODEL_DIR:-../exports/simcse}"
    assert (SERVING / sources["/etc/prometheus/prometheus.yml"]).is_file()
    assert sources["/prometheus"] in compose["volumes"]


def test_prometheus_reads_the_page_of_the_serving_container(compose, monitoring, pod):
    [document] = documents("prometheus.yml")
    [job] = document["scrape_configs"]
    path = monitoring.prometheus_config.path
    assert job["metrics_path"] == path
    [static] = job["static_configs"]
    [(host, port)] = [target.split(":") for target in static["targets"]]
    assert host in compose["services"]
    assert int(port) == REST
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == path
    assert annotations["prometheus.io/port"] == str(REST)


def test_docker_accepts_the_compose_file():
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    plugin = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, timeout=60, check=False
    )
    if plugin.returncode:
        pytest.skip("docker has no compose plugin")
    command = ["docker", "compose", "-f", str(SERVING / "docker-compose.yml"), "config"]
    subprocess.run([*command, "--quiet"], timeout=60, check=True)


# Kubernetes


def test_every_selector_finds_the_pods(objects, pod):
    labels = pod["metadata"]["labels"].items()
    deployment = objects["Deployment", "simcse"]["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        objects["PodDisruptionBudget", "simcse"]["spec"]["selector"]["matchLabels"],
        *(
            objects["Service", name]["spec"]["selector"]
            for name in ("simcse", "simcse-pods")
        ),
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in pod["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_autoscaler_alone_sets_the_number_of_pods(objects):
    scaler = objects["HorizontalPodAutoscaler", "simcse"]["spec"]
    target = scaler["scaleTargetRef"]
    deployment = objects[target["kind"], target["name"]]
    assert target["apiVersion"] == deployment["apiVersion"]
    assert "replicas" not in deployment["spec"]
    # A node can be drained without an outage.
    budget = objects["PodDisruptionBudget", "simcse"]["spec"]
    assert scaler["minReplicas"] > budget["maxUnavailable"]


def test_config_comes_from_the_generated_maps(pod, container, kustomization):
    [mount] = [it for it in container["volumeMounts"] if it["name"] == "config"]
    assert mount["mountPath"] == "/config"
    assert "subPath" not in mount
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {it["name"] for it in container["volumeMounts"]} == volumes.keys()
    sources = volumes["config"]["projected"]["sources"]
    maps = {it["name"]: it for it in kustomization["configMapGenerator"]}
    assert {it["configMap"]["name"] for it in sources} == maps.keys()
    # Servers that run read it again, so its name must not change with its content.
    assert maps["simcse-models"]["files"] == ["models.config"]
    assert maps["simcse-models"]["options"]["disableNameSuffixHash"]


def test_a_pod_ends_only_after_its_clients_have_left(pod, container, flags):
    [key, value] = flags["grpc_channel_arguments"].split("=")
    assert key == "grpc.max_connection_age_ms"
    age = 1.1 * int(value) / 1000  # gRPC adds a tenth at random
    [_, seconds] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (
        age + DNS_SECONDS < int(seconds) < pod["spec"]["terminationGracePeriodSeconds"]
    )


def test_threads_are_as_many_as_the_cores_asked_for(container, batching):
    arguments = dict(it.removeprefix("--").split("=") for it in container["args"])
    cores = int(container["resources"]["requests"]["cpu"])
    assert int(arguments["tensorflow_inter_op_parallelism"]) == cores
    assert batching.num_batch_threads <= cores


def test_pods_run_without_privileges(pod, container):
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["runAsUser"] > 0
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_kubectl_builds_all_objects():
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(SERVING)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    built = {it["kind"]: it for it in yaml.safe_load_all(done.stdout)}
    assert built.keys() == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Service",
    }
    spec = built["Deployment"]["spec"]["template"]["spec"]
    [config] = [it["projected"] for it in spec["volumes"] if "projected" in it]
    names = [source["configMap"]["name"] for source in config["sources"]]
    assert "simcse-models" in names
    assert any(re.fullmatch(r"simcse-settings-\w{10}", name) for name in names)
    assert ":" in spec["containers"][0]["image"]


# The probe


@pytest.fixture
def answering():
    """A server on loopback that answers predictions with a status; its port.

    The signature for probes may have another one. Without a status others wait.
    """
    servers = []

    def answering(status, ready=None):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = json.loads(body)
                right = self.path == "/v1/models/simcse:predict" and asked["instances"]
                is_probe = asked.get("signature_name") == "ready"
                server.signatures.append(asked.get("signature_name"))
                if not status and not is_probe:
                    time.sleep(4)
                answer = ready if ready and is_probe else status
                self.send_response(answer if right else 418)
                self.end_headers()

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.signatures = []
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server.server_port

    answering.servers = servers
    yield answering
    for server in servers:
        server.shutdown()
        server.server_close()


def probe(port):
    return subprocess.run(
        ["bash", str(SERVING / "probe.sh"), "simcse", str(port)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("status", [200, 429, 503])
def test_probe_takes_a_busy_server_for_a_ready_one(answering, status):
    assert probe(answering(status)).returncode == 0


@pytest.mark.parametrize("status", [400, 404, 500])
def test_probe_fails_where_the_model_does_not_answer(answering, status):
    done = probe(answering(status))
    assert done.returncode != 0
    assert str(status) in done.stderr


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 0), (404, 1), (400, 1)])
def test_probe_asks_exports_of_older_releases_too(answering, status, code):
    assert probe(answering(status, ready=400)).returncode == code


def test_probe_sends_a_text_that_frees_empty_batches_and_waits_for_none(answering):
    port = answering(None, ready=200)
    start = time.monotonic()
    assert probe(port).returncode == 0
    assert time.monotonic() - start < 3
    assert answering.servers[0].signatures == ["ready", None]


@pytest.mark.slow
def test_probe_does_not_wait_behind_a_full_queue(tmp_path):
    export(tmp_path)
    rest = free_port()
    with (
        running_server(tmp_path, "--rest_api_port", str(rest)) as server,
        open_stubs(server.target) as stubs,
    ):
        # Fourteen batches of half a second, one behind the other.
        load = predict_request("busy", seconds=np.full(64, 0.5))
        calls = [stubs.predictions.Predict.future(load) for _ in range(14)]
        start = time.monotonic()
        for _ in range(3):
            assert probe(rest).returncode == 0
        assert not all(call.done() for call in calls), "nothing to wait behind"
        assert time.monotonic() - start < 6
        for call in calls:
            call.cancel()


@pytest.mark.slow
def test_probe_fails_without_an_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        start = time.monotonic()
        done = probe(port)
        # Kubernetes gives it five seconds.
        assert time.monotonic() - start < 5
        assert done.returncode != 0
        assert "no answer" in done.stderr


def test_probe_fails_without_a_server():
    assert probe(free_port()).returncode != 0
