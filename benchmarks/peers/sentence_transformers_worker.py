"""sentence-transformers as a contestant of `encoding.py`, in the peers' environment.

`BACKEND` is torch, or onnx or openvino with a precision: float32, bfloat16 (OpenVINO
alone) or int8.
"""

import shutil
import sys
import time
from contextlib import redirect_stdout
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


def load(backend: str, weights: str, texts: list[str]) -> SentenceTransformer:
    kind, _, precision = backend.partition(":")
    if kind == "torch":
        return SentenceTransformer(weights, device="cpu")
    # Exported once, beside a copy of its own: it loads whatever it finds there.
    copy = HERE / ".models" / backend.replace(":", "-")
    if not copy.exists():
        shutil.copytree(weights, copy)
    settings: dict = {"provider": "CPUExecutionProvider"}
    if kind == "openvino":
        hint = {"bfloat16": "bf16"}.get(precision, "f32")
        settings = {"ov_config": {"INFERENCE_PRECISION_HINT": hint}}
        if precision == "int8":
            settings["file_name"] = quantized_openvino(copy, texts)
    elif precision == "int8":
        name = f"model_qint8_{INSTRUCTIONS}.onnx"
        if not (copy / "onnx" / name).exists():
            exact = SentenceTransformer(str(copy), device="cpu", backend=kind)
            export_dynamic_quantized_onnx_model(exact, INSTRUCTIONS, str(copy))
        settings["file_name"] = name
    return SentenceTransformer(
        str(copy), device="cpu", backend=kind, model_kwargs=settings
    )


def quantized_openvino(copy: Path, texts: list[str]) -> str:
    """What `export_static_quantized_openvino_model` makes, measured on these texts.

    Its own come from a hub.
    """
    import nncf
    import openvino

    name = "openvino_model_qint8.xml"
    path = copy / "openvino" / name
    if not path.exists():
        exact = SentenceTransformer(str(copy), device="cpu", backend="openvino")
        model = exact[0].auto_model.model
        inputs = [each.any_name for each in model.inputs]

        def features(text: str) -> dict[str, np.ndarray]:
            tokens = exact.tokenizer(text, truncation=True, return_tensors="np")
            return {each: tokens[each] for each in inputs}

        kind = nncf.ModelType.TRANSFORMER
        # Its progress bars are no answer.
        with redirect_stdout(sys.stderr):
            quantized = nncf.quantize(
                model, nncf.Dataset(texts[:300], features), model_type=kind
            )
        path.parent.mkdir(exist_ok=True)
        openvino.save_model(quantized, path)
    return name


def main() -> None:
    backend, weights, source, out = sys.argv[1:]
    texts = Path(source).read_text("utf-8").split("\n")
    model = load(backend, weights, texts)

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
