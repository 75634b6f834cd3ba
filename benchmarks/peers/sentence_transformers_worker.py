"""sentence-transformers as a contestant of `encoding.py`, in the peers' environment.

`BACKEND` is torch, onnx:float32, onnx:int8, openvino:float32 or openvino:bfloat16.
"""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
)

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rounds import answer  # noqa: E402

BATCH_SIZES = (16, 32, 64)
INSTRUCTIONS = "avx512_vnni"


def load(backend: str, weights: str) -> SentenceTransformer:
    kind, _, precision = backend.partition(":")
    if kind == "torch":
        return SentenceTransformer(weights, device="cpu")
    # Exported once, beside a copy of the weights.
    copy = HERE / ".models" / kind
    if not copy.exists():
        shutil.copytree(weights, copy)
    settings: dict = {"provider": "CPUExecutionProvider"}
    if kind == "openvino":
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        settings = {"ov_config": {"INFERENCE_PRECISION_HINT": hint}}
    elif precision == "int8":
        name = f"model_qint8_{INSTRUCTIONS}.onnx"
        if not (copy / "onnx" / name).exists():
            exact = SentenceTransformer(str(copy), device="cpu", backend=kind)
            export_dynamic_quantized_onnx_model(exact, INSTRUCTIONS, str(copy))
        settings["file_name"] = name
    return SentenceTransformer(
        str(copy), device="cpu", backend=kind, model_kwargs=settings
    )


def main() -> None:
    backend, weights, source, out = sys.argv[1:]
    model = load(backend, weights)
    texts = Path(source).read_text("utf-8").split("\n")

    def embed(batch_size: int, texts: list[str]) -> float:
        begun = time.perf_counter()
        embeddings = model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True
        )
        seconds = time.perf_counter() - begun
        np.save(out, embeddings)
        return len(texts) / seconds

    embed(BATCH_SIZES[0], texts[:256])
    part = texts[:2048]
    best = max(BATCH_SIZES, key=lambda size: embed(size, part))
    answer(lambda: {"rate": embed(best, texts), "batch_size": best})


if __name__ == "__main__":
    main()
