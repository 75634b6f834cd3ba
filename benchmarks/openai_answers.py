"""What it costs to write an answer of the OpenAI API.

    python benchmarks/openai_answers.py

CPU time and size of an answer with some embeddings, beside the same numbers as Python's
`json` writes them, and as NumPy's shortest digits.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from simcse_tf.openai_api.answers import pieces
from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest

ROUNDS = 7


def answer(embeddings: np.ndarray, encoding_format: str) -> bytes:
    request = EmbeddingsRequest(
        model="simcse", input="a", encoding_format=encoding_format
    )
    return b"".join(pieces(request, embeddings, tokens=1))


def by_json(embeddings: np.ndarray) -> bytes:
    return json.dumps(embeddings.tolist()).encode()


def by_numpy(embeddings: np.ndarray) -> bytes:
    rows = (", ".join(row.astype(str).tolist()) for row in embeddings)
    return ", ".join(rows).encode()


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "float": lambda embeddings: answer(embeddings, "float"),
    "base64": lambda embeddings: answer(embeddings, "base64"),
    "json": by_json,
    "NumPy": by_numpy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--texts", type=int, nargs="*", default=[1, 64, 1024])
    args = parser.parse_args()
    print("texts  format        ms       kB")
    for count in args.texts:
        rows = np.random.default_rng(0).standard_normal((count, args.dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        embeddings = rows.astype(np.float32)
        seconds: dict[str, list[float]] = {name: [] for name in WRITERS}
        sizes = {}
        for _ in range(ROUNDS):
            for name, write in WRITERS.items():
                start = time.process_time()
                sizes[name] = len(write(embeddings))
                seconds[name].append(time.process_time() - start)
        for name, times in seconds.items():
            fastest = min(times) * 1e3
            print(f"{count:5}  {name:7} {fastest:8.2f} {sizes[name] / 1e3:8.0f}")


if __name__ == "__main__":
    main()
