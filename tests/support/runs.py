"""What a run's directory holds."""

import json


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]


def same_but_for_time(lines):
    return [
        {key: value for key, value in line.items() if key != "examples_per_second"}
        for line in lines
    ]
