"""Changes to written directories: other versions' files, and other files of weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Edit = Callable[[Path], None]
SAFETENSORS = "model.safetensors"

_OLD_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def json_with(file: str, **changes: Any) -> Edit:
    """Sets keys of a JSON file; `None` removes one, a missing file is made."""

    def edit(directory: Path) -> None:
        path = directory / file
        values = json.loads(path.read_text("utf-8")) if path.exists() else {}
        values = {**values, **changes}
        values = {key: value for key, value in values.items() if value is not None}
        path.write_text(json.dumps(values, indent=2, ensure_ascii=False), "utf-8")

    return edit


def json_by(file: str, change: Callable[[Any], None]) -> Edit:
    """Lets a function change what a JSON file holds."""

    def edit(directory: Path) -> None:
        path = directory / file
        values = json.loads(path.read_text("utf-8"))
        change(values)
        path.write_text(json.dumps(values, indent=2, ensure_ascii=False), "utf-8")

    return edit


def without(*files: str) -> Edit:
    """Removes files, where they are."""

    def edit(directory: Path) -> None:
        for file in files:
            (directory / file).unlink(missing_ok=True)

    return edit


def as_before_5_4(
    modes: Sequence[str], keys: Sequence[str] = tuple(_OLD_POOLING_KEYS), **sbert: Any
) -> Edit:
    """Gives a directory the files that sentence-transformers wrote before 5.4.

    Args:
        modes: The pooling modes.
        keys: The modes that the version knew.
        **sbert: Contents of `sentence_bert_config.json` besides their defaults.
    """

    def edit(directory: Path) -> None:
        pooling = directory / "1_Pooling" / "config.json"
        width = json.loads(pooling.read_text("utf-8"))["embedding_dimension"]
        old = {"word_embedding_dimension": width}
        old |= {_OLD_POOLING_KEYS[key]: key in modes for key in keys}
        pooling.write_text(json.dumps(old, indent=2), "utf-8")
        settings = {"max_seq_length": 64, "do_lower_case": False, **sbert}
        path = directory / "sentence_bert_config.json"
        path.write_text(json.dumps(settings, indent=2), "utf-8")
        path = directory / "modules.json"
        entries = json.loads(path.read_text("utf-8"))
        for entry in entries:
            kind = entry["type"].rpartition(".")[2]
            entry["type"] = f"sentence_transformers.models.{kind}"
        path.write_text(json.dumps(entries, indent=2), "utf-8")

    return edit


def tensors_by(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    """Lets a function change the tensors of `model.safetensors`."""

    def edit(directory: Path) -> None:
        path = directory / SAFETENSORS
        tensors = {
            key: value.contiguous() for key, value in change(load_file(path)).items()
        }
        save_file(tensors, path, {"format": "pt"})

    return edit


def stored_as(kind: torch.dtype) -> Edit:
    """Stores the tensors in another precision."""
    return tensors_by(lambda tensors: {k: v.to(kind) for k, v in tensors.items()})


def as_bin(zipped: bool = True, shards: int = 1) -> Edit:
    """Turns `model.safetensors` into what `torch.save` writes.

    Args:
        zipped: bool. Whether the file is a zip archive, as since PyTorch 1.6.
        shards: int. The number of files.
    """

    def edit(directory: Path) -> None:
        tensors = load_file(directory / SAFETENSORS)
        (directory / SAFETENSORS).unlink()
        parts: list[dict[str, Any]] = [{} for _ in range(shards)]
        for i, (key, value) in enumerate(tensors.items()):
            parts[i % shards][key] = value.clone()
        files = ["pytorch_model.bin"]
        if shards > 1:
            names = range(1, shards + 1)
            files = [f"pytorch_model-{i:05}-of-{shards:05}.bin" for i in names]
            index = {
                "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                "weight_map": {
                    key: file
                    for file, part in zip(files, parts, strict=True)
                    for key in part
                },
            }
            path = directory / "pytorch_model.bin.index.json"
            path.write_text(json.dumps(index, indent=2), "utf-8")
        for file, part in zip(files, parts, strict=True):
            path = directory / file
            torch.save(part, path, _use_new_zipfile_serialization=zipped)

    return edit
