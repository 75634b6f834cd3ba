"""The embeddings of checkpoints, by the libraries that they are made for."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer

from foreign_checkpoints.cell import Read
from foreign_checkpoints.models import values

# The weights may be stored in half precision; the references are computed in single.
_FLOAT32 = {"torch_dtype": torch.float32}


def by_sentence_transformers(directory: Path, sentences: list[str]) -> Any:
    """What `SentenceTransformer.encode` returns."""
    model = SentenceTransformer(
        str(directory), device="cpu", model_kwargs=dict(_FLOAT32)
    )
    return model.encode(sentences)


def _outputs(directory: Path, sentences: list[str]) -> tuple[Any, Any]:
    """The outputs of transformers' model, and the mask of its tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="np")
    if (directory / "flax_model.msgpack").exists():
        model = transformers.FlaxAutoModel.from_pretrained(directory)
        outputs = model(**tokens, output_hidden_states=True)
    else:
        model = transformers.AutoModel.from_pretrained(directory, **_FLOAT32).eval()
        inputs = {key: torch.from_numpy(value) for key, value in tokens.items()}
        with torch.inference_mode():
            outputs = model(**inputs, output_hidden_states=True)
    return outputs, tokens["attention_mask"]


def _pooler_output(directory: Path, sentences: list[str]) -> Any:
    return np.asarray(_outputs(directory, sentences)[0].pooler_output)


def _first_token(directory: Path, sentences: list[str]) -> Any:
    return np.asarray(_outputs(directory, sentences)[0].last_hidden_state)[:, 0]


def _mean(layers: tuple[int, ...], directory: Path, sentences: list[str]) -> Any:
    outputs, mask = _outputs(directory, sentences)
    states = np.mean([np.asarray(outputs.hidden_states[i]) for i in layers], axis=0)
    weights = mask[..., None]
    return (states * weights).sum(1) / weights.sum(1)


def _simcse_head(directory: Path, sentences: list[str]) -> Any:
    """The first token through `mlp.dense`, as SimCSE's training code saves it."""
    first = _first_token(directory, sentences)
    width = first.shape[1]
    kernel = values("mlp.dense.weight", (width, width))
    return np.tanh(first @ kernel.T + values("mlp.dense.bias", (width,)))


pooler_output: Read = _pooler_output
first_token: Read = _first_token
simcse_head: Read = _simcse_head


def mean_of(*layers: int) -> Read:
    """The mean over tokens and layers; 1 is the first layer's output."""
    return partial(_mean, layers)
