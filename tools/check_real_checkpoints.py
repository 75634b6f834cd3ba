"""Checks real weights that sentence-transformers and PyTorch have written.

The first command runs in an environment with sentence-transformers (see
`benchmarks/peers`), once for each of its versions; the second one in ours:

    PEERS/bin/python tools/check_real_checkpoints.py write WORK WEIGHTS
    python tools/check_real_checkpoints.py check WORK DATA

WEIGHTS is the directory of all-MiniLM-L6-v2, DATA that of the STS tasks. `write` saves
the model again as that version saves it, and writes its encoder as the paper's released
checkpoints are: a `pytorch_model.bin` alone, whose pooler is the head. `check` expects
of the former the published score on STS-B, and of the latter the embeddings of
transformers.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

STSB = 82.03
SENTENCES = [
    "A man is playing a guitar.",
    "Où est le café naïf de l'élève?",
    "东京 is 東京都, and [SEP] is no word.",
    "",
    *(
        f"The {i}th of a thousand sentences, and each is longer" * (1 + i % 9)
        for i in range(996)
    ),
]


def write(work: Path, weights: Path) -> None:
    """Writes both directories, in the peers' environment."""
    import torch
    from sentence_transformers import SentenceTransformer, __version__
    from transformers import AutoModel, AutoTokenizer

    version = __version__.partition(".")[0]
    model = SentenceTransformer(str(weights), device="cpu")
    model.save(str(work / f"saved-by-{version}"), create_model_card=False)

    directory = work / f"bin-by-{version}"
    tokenizer = AutoTokenizer.from_pretrained(weights)
    encoder = AutoModel.from_pretrained(weights).eval()
    tokenizer.save_pretrained(directory)
    encoder.config.save_pretrained(directory)
    torch.save(encoder.state_dict(), directory / "pytorch_model.bin")
    rows = []
    with torch.inference_mode():
        for i in range(0, len(SENTENCES), 100):
            tokens = tokenizer(
                SENTENCES[i : i + 100],
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            rows.append(encoder(**tokens).pooler_output.numpy())
    np.save(directory / "pooler_output.npy", np.concatenate(rows))


def check(work: Path, data: Path) -> bool:
    """Prints what became of each directory, and returns whether all is as expected."""
    right = True
    for directory in sorted(work.glob("saved-by-*")):
        scores = directory / "scores.json"
        command = [
            sys.executable,
            "-m",
            "simcse_tf.evaluate",
            "--model",
            str(directory),
        ]
        command += [
            "--tasks",
            "STSBenchmark",
            "--data",
            str(data),
            "--json",
            str(scores),
        ]
        subprocess.run(command, check=True)
        score = json.loads(scores.read_text("utf-8"))["STSBenchmark"]
        print(f"{directory.name}: STS-B {score:.2f}, expected {STSB}")
        right &= round(score, 2) == STSB
    for directory in sorted(work.glob("bin-by-*")):
        worst = lowest_cosine(directory)
        print(f"{directory.name}: cosine with pooler_output at least {worst:.9f}")
        right &= worst >= 0.999999
    return right


def lowest_cosine(directory: Path) -> float:
    from simcse_tf import SimCSE

    references = np.load(directory / "pooler_output.npy")
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    embeddings = SimCSE.from_preset(str(directory)).predict(SENTENCES)
    return float((embeddings * references).sum(1).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("write", help="in the peers' environment")
    writer.add_argument("work", type=Path)
    writer.add_argument("weights", type=Path)
    checker = commands.add_parser("check", help="in ours")
    checker.add_argument("work", type=Path)
    checker.add_argument("data", type=Path)
    flags = parser.parse_args()
    if flags.command == "write":
        write(flags.work, flags.weights)
    elif not check(flags.work, flags.data):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
