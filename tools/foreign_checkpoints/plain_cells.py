"""Directories of transformers alone: the paper's, masked language models, Flax."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from foreign_checkpoints import readings
from foreign_checkpoints.cell import Cell, Write, edited, modules
from foreign_checkpoints.edits import SAFETENSORS, as_bin, stored_as, tensors_by
from foreign_checkpoints.models import FAMILIES, values, write_transformer


def plain_cells() -> Iterator[Cell]:
    """Directories of transformers, without a word about pooling."""

    def cell(name: str, read: Any, *edits: Write, **settings: Any) -> Cell:
        transformer = {
            k: settings.pop(k)
            for k in ("family", "model_class", "config")
            if k in settings
        }
        write = partial(write_transformer, **transformer)
        return Cell(f"plain/{name}", edited(write, *edits), read=read, **settings)

    pooler, first = readings.pooler_output, readings.first_token
    yield cell("bert", pooler, versions=(5, 6))
    yield cell("roberta", pooler, family="roberta", versions=(5, 6))
    yield cell("xlm-roberta", pooler, family="xlm-roberta")
    yield cell(
        "bert, pytorch_model.bin", pooler, as_bin(), like="plain/bert", versions=(5, 6)
    )
    # The paper's released checkpoints.
    yield cell(
        "bert, pytorch_model.bin, not zipped",
        pooler,
        as_bin(zipped=False),
        like="plain/bert",
    )
    yield cell(
        "roberta, pytorch_model.bin",
        pooler,
        as_bin(zipped=False),
        family="roberta",
        like="plain/roberta",
    )
    yield cell("bert, float16", pooler, stored_as(torch.float16), like="plain/bert")
    # What the paper's training code leaves.
    yield cell(
        "bert, mlp.dense",
        readings.simcse_head,
        tensors_by(_training_code),
        unlike="plain/bert",
    )
    yield cell(
        "roberta, mlp.dense, pytorch_model.bin",
        readings.simcse_head,
        tensors_by(_training_code),
        as_bin(),
        family="roberta",
        unlike="plain/roberta",
    )
    for family in FAMILIES:
        yield cell(
            f"{family}, cls_before_pooler",
            first,
            family=family,
            versions=(5, 6),
            arguments={"pooling": "cls_before_pooler"},
        )
        yield cell(
            f"{family}, avg",
            readings.mean_of(-1),
            family=family,
            versions=(5, 6),
            arguments={"pooling": "avg"},
            unlike=f"plain/{family}, cls_before_pooler",
        )
    for pooling, layers in (("avg_top2", (-1, -2)), ("avg_first_last", (1, -1))):
        for family in ("bert", "roberta"):
            yield cell(
                f"{family}, {pooling}",
                readings.mean_of(*layers),
                family=family,
                arguments={"pooling": pooling},
                unlike=f"plain/{family}, avg",
                config={"num_hidden_layers": 3},
            )
    yield from _flax_cells()
    for name, family, model in (
        ("BertForMaskedLM", "bert", transformers.BertForMaskedLM),
        ("RobertaForMaskedLM", "roberta", transformers.RobertaForMaskedLM),
        ("XLMRobertaForMaskedLM", "xlm-roberta", transformers.XLMRobertaForMaskedLM),
        ("DistilBertForMaskedLM", "distilbert", transformers.DistilBertForMaskedLM),
        ("BertForPreTraining", "bert", transformers.BertForPreTraining),
    ):
        yield cell(
            f"{name}, avg",
            readings.mean_of(-1),
            family=family,
            model_class=model,
            arguments={"pooling": "avg"},
            like=f"plain/{family}, avg",
            versions=(5, 6)
            if name in ("BertForMaskedLM", "RobertaForMaskedLM")
            else (6,),
        )
    # It has no pooler, and says nothing: there is no reading to compare with.
    yield cell(
        "BertForMaskedLM", None, model_class=transformers.BertForMaskedLM, loads=False
    )
    yield cell("distilbert", None, family="distilbert", loads=False)
    yield cell(
        "BertForPreTraining",
        pooler,
        model_class=transformers.BertForPreTraining,
        like="plain/bert",
    )
    for family, model in (
        ("bert", transformers.BertForSequenceClassification),
        ("roberta", transformers.RobertaForSequenceClassification),
    ):
        yield cell(
            f"{model.__name__}, avg",
            readings.mean_of(-1),
            family=family,
            model_class=model,
            arguments={"pooling": "avg"},
            like=f"plain/{family}, avg",
        )


def _training_code(tensors: dict[str, Any]) -> dict[str, Any]:
    """`BertForCL`: the encoder under its family's name, and the head as `mlp.dense`."""
    family = (
        "roberta"
        if tensors["embeddings.position_embeddings.weight"].shape[0] > 64
        else "bert"
    )
    named = {
        f"{family}.{k}": v for k, v in tensors.items() if not k.startswith("pooler")
    }
    head = {
        f"mlp.dense.{part}": torch.from_numpy(values(f"mlp.dense.{part}", shape))
        for part, shape in (("weight", (32, 32)), ("bias", (32,)))
    }
    return {**named, **head}


def _flax_cells() -> Iterator[Cell]:
    """Flax' files, which transformers 4 still writes."""
    pooler = readings.pooler_output
    for family in FAMILIES:
        read = readings.mean_of(-1)
        yield Cell(
            f"weights/{family}, flax_model.msgpack",
            edited(modules(family, "mean"), partial(_flax, family=family)),
            read=read,
            like=f"{family}/mean",
            versions=(5,),
        )
    for name, half in (
        ("flax_model.msgpack", False),
        ("flax_model.msgpack, bfloat16", True),
    ):
        yield Cell(
            f"plain/bert, {name}",
            edited(write_transformer, partial(_flax, family="bert", half=half)),
            read=pooler,
            like="plain/bert",
            versions=(5,),
        )


def _flax(directory: Path, family: str, half: bool = False) -> None:
    name = type(transformers.AutoConfig.for_model(family)).__name__
    flax_class = getattr(transformers, f"Flax{name.replace('Config', 'Model')}")
    model = flax_class.from_pretrained(directory, from_pt=True)
    (directory / SAFETENSORS).unlink()
    params = model.to_bf16(model.params) if half else model.params
    model.save_pretrained(directory, params=params)
