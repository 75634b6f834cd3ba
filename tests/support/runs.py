"""What a run's directory holds."""

import json

import numpy as np

from simcse_tf.training.progress import Progress, link_last, save_state
from simcse_tf.training.run_directory import SCORES_FILE, RunDirectory


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]


def same_but_for_time(lines):
    return [
        {key: value for key, value in line.items() if key != "examples_per_second"}
        for line in lines
    ]


def write_run(path, config, steps=6, every=2):
    """A run's directory as `train` leaves it after some steps, without models.

    `config` is a `Config`; a checkpoint holds two arrays that follow from its step.
    """
    run = RunDirectory(path)
    config = config.model_copy(update={"output_dir": str(path)})
    run.path.mkdir(parents=True)
    run.config_file.write_text(config.to_json())
    rows = [{"step": step, "loss": 1 / step} for step in range(1, steps + 1)]
    rows[-1]["dev_avg"] = 70.5
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.best.mkdir()
    scores = {"step": steps, "STSBenchmark": 71.25, "avg": 70.5}
    (run.best / SCORES_FILE).write_text(json.dumps(scores, indent=2) + "\n")
    run.test_file.write_text(json.dumps({"STSBenchmark": 69.5, "avg": 69.5}) + "\n")
    for step in range(every, steps + 1, every):
        save_checkpoint(run, step)
    return run


def save_checkpoint(run, step):
    directory = run.checkpoint(step)
    directory.mkdir(parents=True)
    save_state(directory, Progress(step, 25), state_of(step))
    link_last(run, directory)


def state_of(step):
    weights = np.arange(24, dtype="float32").reshape(4, 6) + step
    return {"model/0/kernel": weights, "optimizer/0/iteration": np.array(step)}
