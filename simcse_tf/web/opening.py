"""From a command line's words to indexes, each with the model that built it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from simcse_tf.client import AsyncClient, Retry
from simcse_tf.core.errors import UserError
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.querying import check_same_embeddings, check_same_model
from simcse_tf.web.served_model import ServedModel
from simcse_tf.web.sides import Side

if TYPE_CHECKING:
    from simcse_tf.web.local_model import LocalModel

_NAME = "simcse"


@dataclass(frozen=True)
class Source:
    """What a column of the page is made of.

    Attributes:
        index: string. The index's directory.
        target: Optional string. Where its model is served, `"HOST:PORT"` or
            `"HOST:PORT/NAME"`.
        model: Optional string. A MODEL argument. Without a target it embeds queries,
            beside one it shows their tokens.

    Example:

    ```python
    Source("wiki.index", target="127.0.0.1:8500", model=None)
    ```
    """

    index: str
    target: str | None
    model: str | None


def open_indexes(sources: Sequence[Source]) -> list[Index]:
    """Opens the indexes, which takes no time.

    Args:
        sources: One or two.

    Raises:
        UserError: If one is none, or has no texts to show.

    Example:

    ```python
    [index] = open_indexes([source])
    ```
    """
    indexes = [Index.open(source.index) for source in sources]
    for source, index in zip(sources, indexes, strict=True):
        if not index.manifest.has_texts:
            raise UserError(
                f"{source.index}: expected an index with texts, which the page shows: "
                "it was built from embeddings without"
            )
    return indexes


async def open_sides(
    sources: Sequence[Source], indexes: Sequence[Index], **connection: Any
) -> list[Side]:
    """Gives each index its model, once that is known to be the one that built it.

    Args:
        sources: One or two.
        indexes: What `open_indexes` returned for them.
        connection: `tls` and `token`, as for `simcse_tf.client.AsyncClient`.

    Raises:
        UserError: If a model cannot be loaded or reached, or is another one.

    Example:

    ```python
    await show(await open_sides(sources, open_indexes(sources)), "127.0.0.1", 8600)
    ```
    """
    sides: list[Side] = []
    try:
        for source, index, name in zip(sources, indexes, _names(sources), strict=True):
            local = None if source.model is None else _load(source.model, index)
            if source.target is None:
                assert local is not None
                sides.append(Side(index, local, name))
                await sides[-1].warm_up()
                continue
            target, _, served = source.target.partition("/")
            check = functools.partial(
                check_same_embeddings, index, name=f"the model at {source.target}"
            )
            client = AsyncClient(
                target, served or _NAME, retry=Retry(attempts=1), **connection
            )
            model = ServedModel(client, index.dimension, check, local)
            sides.append(Side(index, model, name))
            await model.check()
    except BaseException:
        for side in sides:
            await side.close()
        raise
    return sides


def _load(name: str, index: Index) -> LocalModel:
    from simcse_tf.model.simcse import SimCSE
    from simcse_tf.web.local_model import LocalModel

    manifest = index.manifest
    model = SimCSE.from_preset(
        name, pooling=manifest.pooling, max_length=manifest.max_length
    )
    check_same_model(index, model, name)
    return LocalModel(model, index.dimension)


def _names(sources: Sequence[Source]) -> list[str]:
    """The indexes' names; their paths, where names are the same."""
    names = [PurePath(source.index).name or source.index for source in sources]
    if len(set(names)) < len(names):
        return [source.index for source in sources]
    return names
