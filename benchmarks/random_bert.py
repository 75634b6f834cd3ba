"""A BERT with random weights in Hugging Face's format, to be timed."""

import json
import shutil
from pathlib import Path

import numpy as np
from encoding import package_directory
from safetensors.numpy import save_file

HEAD_WIDTH, POSITIONS, SEGMENTS, WORDS = 64, 512, 2, 30522


def write(out: Path, layers: int, width: int) -> Path:
    """Writes it with MiniLM's tokenizer and settings, unless it is there already."""
    if out.exists():
        return out
    part = out.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(package_directory() / "model", part, ignore=ignored)
    _edit(
        part / "config.json",
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=4 * width,
    )
    _edit(part / "1_Pooling" / "config.json", word_embedding_dimension=width)
    weights = _weights(layers, width)
    save_file(weights, part / "model.safetensors", {"format": "pt"})
    part.rename(out)
    return out


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _weights(layers: int, width: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    matrices: dict[str, tuple[int, int]] = {
        f"embeddings.{name}_embeddings": (rows, width)
        for name, rows in (
            ("word", WORDS),
            ("position", POSITIONS),
            ("token_type", SEGMENTS),
        )
    }
    norms, biases = ["embeddings.LayerNorm"], ["pooler.dense"]
    matrices["pooler.dense"] = (width, width)
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        attention = f"{layer}.attention"
        parts = {
            f"{attention}.self.query": (width, width),
            f"{attention}.self.key": (width, width),
            f"{attention}.self.value": (width, width),
            f"{attention}.output.dense": (width, width),
            f"{layer}.intermediate.dense": (4 * width, width),
            f"{layer}.output.dense": (width, 4 * width),
        }
        matrices |= parts
        biases += parts
        norms += [f"{attention}.output.LayerNorm", f"{layer}.output.LayerNorm"]
    weights = {}
    for name, shape in matrices.items():
        values = random.standard_normal(shape, np.float32)
        weights[f"{name}.weight"] = np.float32(0.02) * values
    for name in biases:
        weights[f"{name}.bias"] = np.zeros(matrices[name][0], np.float32)
    for name in norms:
        weights[f"{name}.weight"] = np.ones(width, np.float32)
        weights[f"{name}.bias"] = np.zeros(width, np.float32)
    return weights
