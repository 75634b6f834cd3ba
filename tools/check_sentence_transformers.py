"""Compares an exported model with what sentence-transformers makes of its directory.

    python tools/check_sentence_transformers.py --model runs/sup/best \
        --directory models/mine --data data/senteval --peers PYTHON [PYTHON ...]

`--model` is what was exported to `--directory`. Each PYTHON is that of an environment
with sentence-transformers, which needs nothing of this project. The texts are distinct
sentences of STS-B. The exit code is 1 if a cosine is below 0.999999, or a correlation
on STS-B's test data differs in the second decimal.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_TASK = "STSBenchmark"
_LEAST_COSINE = 1 - 1e-6


def main() -> None:
    """Runs the comparison, or, for `--embed`, the peer's half of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="what was exported")
    parser.add_argument("--directory", required=True, help="the export")
    parser.add_argument("--data", help="directory with STS/STSBenchmark")
    parser.add_argument("--peers", nargs="+", default=[], metavar="PYTHON")
    # The half of the peer's Python: texts in, embeddings out.
    parser.add_argument("--embed", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.embed:
        _embed(arguments.directory, *arguments.embed)
    else:
        sys.exit(not _compare(arguments))


def _embed(directory: str, texts: str, output: str) -> None:
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(directory, device="cpu")
    embeddings = model.encode(json.loads(Path(texts).read_text("utf-8")))
    np.save(output, embeddings)
    print(sentence_transformers.__version__)


def _peer(python: str, directory: str, texts: Sequence[str]) -> tuple[str, np.ndarray]:
    """The version of a peer's sentence-transformers, and its embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        written, output = Path(folder, "texts.json"), Path(folder, "embeddings.npy")
        written.write_text(json.dumps(list(texts)), "utf-8")
        command = [python, __file__, "--directory", directory]
        command += ["--embed", str(written), str(output)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{python}: {done.stderr}")
        return done.stdout.split()[-1], np.load(output)


def _compare(arguments: argparse.Namespace) -> bool:
    from simcse_tf import SimCSE
    from simcse_tf.evaluation.sts import evaluate_pairs
    from simcse_tf.evaluation.sts_files import load_task
    from simcse_tf.model.bulk import encode

    pairs = load_task(arguments.data, _TASK)
    texts = list(dict.fromkeys([*pairs.sentences_a, *pairs.sentences_b]))
    place = {text: number for number, text in enumerate(texts)}

    def score(embeddings: np.ndarray) -> float:
        def embedded(texts: Sequence[str]) -> np.ndarray:
            return embeddings[[place[text] for text in texts]]

        return evaluate_pairs(embedded, {_TASK: pairs})[_TASK]

    expected = encode(SimCSE.from_preset(arguments.model), texts)
    again = encode(SimCSE.from_preset(arguments.directory), texts)
    found = [("simcse_tf, read again", again)]
    for python in arguments.peers:
        version, embeddings = _peer(python, arguments.directory, texts)
        found.append((f"sentence-transformers {version}", embeddings))
    wanted = score(expected)
    print(f"{len(texts)} sentences; STS-B test {wanted:.4f} by simcse_tf")
    equal = True
    for name, embeddings in found:
        least = (expected.astype(np.float64) * embeddings).sum(axis=1).min()
        reached = score(embeddings)
        print(f"{name}: cosine at least {least:.8f}, STS-B test {reached:.4f}")
        equal &= bool(least >= _LEAST_COSINE) and f"{reached:.2f}" == f"{wanted:.2f}"
    return equal


if __name__ == "__main__":
    main()
