"""Configurations, files of weights, and directories of transformers alone."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from foreign_checkpoints.cell import Cell, Write, edited, modules
from foreign_checkpoints.edits import (
    SAFETENSORS,
    as_bin,
    json_with,
    stored_as,
    tensors_by,
    without,
)
from foreign_checkpoints.models import FAMILIES

MEAN = modules("bert", "mean")


def config_cells() -> Iterator[Cell]:
    def cell(
        name: str, family: str = "bert", unlike: str | None = None, **config: Any
    ) -> Cell:
        settings = {
            k: config.pop(k)
            for k in ("versions", "like", "least", "loads")
            if k in config
        }
        if unlike is None:
            unlike = "" if settings.get("like") else f"{family}/mean"
        return Cell(
            f"{family}/{name}",
            modules(family, "mean", config=config),
            unlike,
            **settings,
        )

    for activation in (
        "relu",
        "silu",
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_fast",
        "quick_gelu",
        "mish",
    ):
        least = {"quick_gelu": 0.005, "relu": 0.05, "silu": 0.05, "mish": 0.05}
        for family in (
            ("bert", "roberta") if activation in ("relu", "gelu_new") else ("bert",)
        ):
            yield cell(
                f"hidden_act {activation}",
                family,
                hidden_act=activation,
                least=least.get(activation, 1e-4),
                versions=(5, 6) if activation in ("relu", "gelu_new") else (6,),
            )
    yield cell("activation relu", "distilbert", activation="relu", versions=(5, 6))
    yield cell(
        "sinusoidal_pos_embds", "distilbert", sinusoidal_pos_embds=True, unlike=""
    )
    for family in ("bert", "roberta", "xlm-roberta"):
        yield cell("layer_norm_eps 0.5", family, layer_norm_eps=0.5, least=0.01)
    yield cell(
        "type_vocab_size 1", type_vocab_size=1, like="bert/mean", versions=(5, 6)
    )
    yield cell("type_vocab_size 3", type_vocab_size=3, like="bert/mean")
    yield cell("type_vocab_size 2", "roberta", type_vocab_size=2, like="roberta/mean")
    yield cell("num_attention_heads 2", num_attention_heads=2)
    yield cell("one layer", num_hidden_layers=1)
    yield cell("intermediate_size 48", intermediate_size=48)
    yield cell("hidden_size 16", hidden_size=16, unlike="")
    yield cell("chunk_size_feed_forward", chunk_size_feed_forward=2, like="bert/mean")
    yield cell("pad_token_id 0", "roberta", pad_token_id=0, versions=(6,))
    yield cell("is_decoder", is_decoder=True)
    for kind in ("relative_key", "relative_key_query"):
        yield cell(
            f"position_embedding_type {kind}",
            position_embedding_type=kind,
            versions=(5,),
        )
    yield cell(
        "position_embedding_type relative_key",
        "roberta",
        position_embedding_type="relative_key",
        versions=(5,),
    )
    yield Cell(
        "bert/rows beyond the vocabulary",
        modules("bert", "mean", rows=7),
        versions=(5, 6),
    )
    yield Cell(
        "bert/adapter",
        edited(
            MEAN,
            json_with(
                "adapter_config.json", peft_type="LORA", base_model_name_or_path="x"
            ),
        ),
        loads=False,
    )


def _save_again(directory: Path, **settings: Any) -> None:
    model = transformers.AutoModel.from_pretrained(directory)
    (directory / SAFETENSORS).unlink()
    model.save_pretrained(directory, **settings)


def _old_names(tensors: dict[str, Any]) -> dict[str, Any]:
    """As checkpoints that were converted from TensorFlow's first BERT."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(key: str) -> str:
        for new, old in names.items():
            key = key.replace(new, old)
        return f"bert.{key}"

    return {renamed(key): value for key, value in tensors.items()}


def _position_ids(tensors: dict[str, Any]) -> dict[str, Any]:
    """The buffer that transformers kept in checkpoints before 4.31."""
    return {**tensors, "embeddings.position_ids": torch.arange(64)[None]}


def _doubled(tensors: dict[str, Any]) -> dict[str, Any]:
    return {key: value * 2 for key, value in tensors.items()}


def _less(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {
        key: value for key, value in tensors.items() if not key.startswith(names)
    }


def weight_cells() -> Iterator[Cell]:
    def same(name: str, *edits: Write, write: Write = MEAN, **settings: Any) -> Cell:
        settings.setdefault("like", "bert/mean")
        return Cell(f"weights/{name}", edited(write, *edits), **settings)

    for family in FAMILIES:
        write, like = modules(family, "mean"), f"{family}/mean"
        yield same(f"{family}, pytorch_model.bin", as_bin(), write=write, like=like)
    yield same("sharded", partial(_save_again, max_shard_size="40KB"), versions=(5, 6))
    yield same("float16", stored_as(torch.float16))
    yield same("bfloat16", stored_as(torch.bfloat16))
    yield same("float64", stored_as(torch.float64))
    yield same("float16, pytorch_model.bin", stored_as(torch.float16), as_bin())
    yield same(
        "bfloat16, pytorch_model.bin",
        stored_as(torch.bfloat16),
        as_bin(zipped=False),
    )
    yield same("pytorch_model.bin, not zipped", as_bin(zipped=False), versions=(5, 6))
    yield same("pytorch_model.bin, sharded", as_bin(shards=3))
    yield same(
        "pytorch_model.bin, of save_pretrained",
        partial(_save_again, safe_serialization=False),
        versions=(5,),
    )
    yield same("old names", tensors_by(_old_names))
    yield same(
        "old names, pytorch_model.bin", tensors_by(_old_names), as_bin(zipped=False)
    )
    yield same("position_ids", tensors_by(_position_ids))
    yield same("no pooler", tensors_by(_less("pooler")))
    yield same("safetensors before pytorch_model.bin", _both)
    yield same(
        "a tensor is missing",
        tensors_by(_less("encoder.layer.1.output.dense.weight")),
        like="",
        loads=False,
    )
    yield same("a tensor is unknown", tensors_by(_stranger), like="")
    yield same("a tensor of another shape", tensors_by(_wider), like="", loads=False)
    yield same("tf_model.h5 alone", _only("tf_model.h5"), like="", loads=False)
    yield same("onnx alone", _only("model.onnx"), like="", loads=False)
    yield same("none", without(SAFETENSORS), like="", loads=False)


def _both(directory: Path) -> None:
    weights = (directory / SAFETENSORS).read_bytes()
    tensors_by(_doubled)(directory)
    as_bin()(directory)
    (directory / SAFETENSORS).write_bytes(weights)


def _stranger(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "encoder.layer.0.adapter.dense.weight": torch.ones(32, 32)}


def _wider(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "encoder.layer.0.output.dense.bias": torch.ones(33)}


def _only(file: str) -> Write:
    def edit(directory: Path) -> None:
        (directory / SAFETENSORS).unlink()
        (directory / file).write_bytes(b"not read")

    return edit
