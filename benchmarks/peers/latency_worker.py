"""A peer as a contestant of `latency.py`, in the peers' environment.

`BACKEND` is onnx, onnx:int8 (both ONNX Runtime and `tokenizers`, nothing between) or
torch (sentence-transformers).
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from latency import measure  # noqa: E402
from rounds import answer  # noqa: E402

Embed = Callable[[list[str]], np.ndarray]


def onnx_files(weights: str) -> Path:
    """The model in float32 and int8, exported once beside a copy of its weights."""
    from sentence_transformers import (
        SentenceTransformer,
        export_dynamic_quantized_onnx_model,
    )

    copy = HERE / ".models" / "latency"
    if not (copy / "onnx" / "model_qint8_avx512_vnni.onnx").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(weights, copy)
        settings = {"provider": "CPUExecutionProvider"}
        model = SentenceTransformer(
            str(copy), device="cpu", backend="onnx", model_kwargs=settings
        )
        model.save_pretrained(str(copy))
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(copy))
    return copy


def onnx_session(weights: str, int8: bool, threads: int) -> Embed:
    import onnxruntime
    from tokenizers import Tokenizer

    files = onnx_files(weights)
    name = "model_qint8_avx512_vnni.onnx" if int8 else "model.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        files / "onnx" / name, options, providers=["CPUExecutionProvider"]
    )
    inputs = {each.name for each in session.get_inputs()}
    tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()

    def embed(texts: list[str]) -> np.ndarray:
        encoded = tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encoded], np.int64)
        mask = np.array([each.attention_mask for each in encoded], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        [states, *_] = session.run(None, feeds)
        means = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    return embed


def torch_model(weights: str, threads: int) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(weights, device="cpu")
    return lambda texts: model.encode(texts, normalize_embeddings=True)


def main() -> None:
    backend, weights, threads, counts, source = sys.argv[1:]
    embed = (
        torch_model(weights, int(threads))
        if backend == "torch"
        else onnx_session(weights, backend == "onnx:int8", int(threads))
    )
    texts = Path(source).read_text("utf-8").split("\n")
    answer(lambda: measure(embed, texts, json.loads(counts)))


if __name__ == "__main__":
    main()
