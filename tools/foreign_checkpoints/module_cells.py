"""Modules behind the pooling, and before it."""

from collections.abc import Iterator
from typing import Any

from sentence_transformers.models import (
    CNN,
    LSTM,
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    WeightedLayerPooling,
)
from torch import nn

from foreign_checkpoints.cell import Cell, edited, modules
from foreign_checkpoints.edits import as_before_5_4, as_bin, json_by, json_with
from foreign_checkpoints.pooling_cells import POOLINGS

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "softsign": nn.Softsign,
}


def dense(size: int, inputs: int = 32, **settings: Any) -> Dense:
    """A Dense module; its activation is the identity where nothing else is given."""
    settings.setdefault("activation_function", nn.Identity())
    return Dense(inputs, size, **settings)


def module_cells() -> Iterator[Cell]:
    def cell(name: str, *after: Any, **settings: Any) -> Cell:
        args = settings.pop("args", ("bert", "mean"))
        settings.setdefault("unlike", "bert/mean")
        write = modules(*args, after=lambda: [make() for make in after])
        return Cell(name, write, **settings)

    for name, activation in ACTIVATIONS.items():
        unlike = "bert/dense identity" if name != "identity" else ""
        yield cell(
            f"bert/dense {name}",
            lambda activation=activation: dense(32, activation_function=activation()),
            unlike=unlike,
            versions=(5, 6) if name in ("tanh", "identity") else (6,),
        )
    yield cell(
        "bert/dense no bias",
        lambda: dense(32, bias=False),
        unlike="bert/dense identity",
        versions=(5, 6),
    )
    yield cell("bert/dense 8", lambda: dense(8), unlike="")
    yield cell(
        "bert/dense gelu_tanh",
        lambda: dense(32, activation_function=nn.GELU(approximate="tanh")),
        # The file does not say how the GELU is computed.
        like="bert/dense gelu",
        unlike="",
    )
    yield cell(
        "bert/two dense",
        lambda: dense(24, activation_function=nn.Tanh()),
        lambda: dense(32, inputs=24),
        unlike="bert/dense identity",
        versions=(5, 6),
    )
    yield cell("bert/normalize", Normalize, like="bert/mean", unlike="")
    yield cell(
        "bert/dense, normalize",
        lambda: dense(32, activation_function=nn.Tanh()),
        Normalize,
        unlike="",
        like="bert/dense tanh",
        versions=(5, 6),
    )
    yield cell(
        "bert/normalize, dense",
        Normalize,
        lambda: dense(32),
        unlike="bert/dense identity",
    )
    for family, pooling in (
        ("roberta", "cls"),
        ("distilbert", "mean"),
        ("xlm-roberta", "cls+max"),
    ):
        yield cell(
            f"{family}/{pooling}, dense tanh",
            lambda pooling=pooling: dense(
                32, inputs=32 * (1 + pooling.count("+")), activation_function=nn.Tanh()
            ),
            args=(family, POOLINGS.get(pooling, pooling)),
            unlike=f"{family}/{pooling}" if "+" not in pooling else "",
        )
    yield Cell(
        "old/dense in pytorch_model.bin",
        edited(
            modules(
                "bert", "mean", after=lambda: [dense(32, activation_function=nn.Tanh())]
            ),
            as_before_5_4(("mean",)),
            lambda directory: as_bin(zipped=False)(directory / "2_Dense"),
        ),
        like="bert/dense tanh",
    )
    yield cell(
        "bert/dense residual",
        lambda: dense(32, use_residual=True),
        unlike="bert/dense identity",
    )
    yield cell(
        "bert/dense on tokens",
        lambda: dense(32, module_input_name="token_embeddings"),
        unlike="",
        like="bert/mean",
    )
    yield Cell(
        "bert/dense of unknown activation",
        edited(
            modules("bert", "mean", after=lambda: [dense(32)]),
            json_with("2_Dense/config.json", activation_function="my.Activation"),
        ),
        loads=False,
    )
    yield cell("bert/dropout", lambda: Dropout(0.5), like="bert/mean", unlike="")
    yield cell("bert/layer norm", lambda: LayerNorm(32))
    for name, make, config in (
        ("cnn", lambda: CNN(32, 8, [1, 3]), {}),
        ("lstm", lambda: LSTM(32, 16), {}),
        (
            "weighted layer pooling",
            lambda: WeightedLayerPooling(32, 2, 1),
            {"output_hidden_states": True},
        ),
    ):
        between = modules("bert", "mean", between=lambda m=make: [m()], config=config)
        lstm = name == "lstm"  # Nothing counts tokens for it any more.
        yield Cell(f"bert/{name}", between, "" if lstm else "bert/mean", loads=not lstm)
    yield Cell(
        "bert/no pooling",
        edited(modules("bert", "mean"), json_by("modules.json", lambda m: m.pop())),
        loads=False,
    )
    yield Cell(
        "bert/module of another package",
        edited(
            modules("bert", "mean"),
            json_by("modules.json", lambda m: m[1].update(type="my_package.MyPooling")),
        ),
        loads=False,
    )
