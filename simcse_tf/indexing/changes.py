"""Changing an index: `build`, `add` and `remove`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simcse_tf.core.atomic import publish
from simcse_tf.core.contents import listed
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.core.outputs import output_directory, writing_output
from simcse_tf.core.regular_files import is_there, shown_path
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.manifest import (
    MANIFEST_FILE,
    Candidates,
    Manifest,
    read_manifest,
    write_manifest,
)
from simcse_tf.indexing.parts import (
    check_candidates,
    rows_of,
    with_candidates,
    with_removed,
)
from simcse_tf.indexing.record_file import ID
from simcse_tf.indexing.segment_writer import SegmentWriter
from simcse_tf.indexing.sources import Source
from simcse_tf.indexing.vectors import Dtype
from simcse_tf.indexing.writing import (
    FLAG,
    LOCK_FILE,
    changing,
    check_ours,
    clean,
    locked_index,
    next_name,
    nothing_in_vain,
)

_SHOWN_IDS = 3


class Added(NamedTuple):
    """What `add` did.

    Attributes:
        manifest: What the index is now.
        rows: int. How many are new.
        replaced: int. How many of them replaced another row.

    Example:

    ```python
    add(directory, source_of).rows  # 1000
    ```
    """

    manifest: Manifest
    rows: int
    replaced: int


def build(
    directory: str | os.PathLike[str],
    source: Source,
    *,
    dtype: Dtype = "float32",
    kind: str | None = None,
    replace: bool = False,
) -> Manifest:
    """Writes an index, whole or not at all.

    After a kill, the next call with the same source goes on where it was.

    Args:
        directory: The index. Until it is whole it has `.partial` behind its name,
            unless there is an empty directory for it.
        source: What its rows are.
        dtype: What embeddings are stored as. Defaults to `"float32"`.
        kind: Optional string. Of the candidates. Defaults to `None`: by the number of
            rows.
        replace: bool. Whether an index that is there is replaced. Defaults to
            `False`.

    Returns:
        What the index is.

    Raises:
        UserError: If there is something already, the source cannot be read or holds
            nothing, or the index cannot be written.

    Example:

    ```python
    build("wiki.index", source, dtype="int8").rows  # 1000000
    ```
    """
    with building(directory, replace) as (place, before):
        with nothing_in_vain(place, before):
            manifest = _built(place, source, dtype, kind, before)
        write_manifest(place, manifest)
    return manifest


@contextmanager
def building(
    directory: str | os.PathLike[str], replace: bool
) -> Iterator[tuple[Path, Manifest | None]]:
    """Yields where a new index is written, to its only writer.

    The block writes the manifest. The index has its own name after that.

    Args:
        directory: As for `build`.
        replace: bool. As for `build`.

    Yields:
        The directory, and the manifest of what is replaced there.

    Raises:
        UserError: As for `build`.

    Example:

    ```python
    with building("wiki.index", replace=False) as (place, before):
        write_manifest(place, manifest)
    ```
    """
    final = check_new(directory, replace)
    place = final if final.exists() else final.with_name(f"{final.name}.partial")
    check_ours(place)
    with writing_output(FLAG, directory), locked_index(place):
        # It may have appeared meanwhile.
        check_new(directory, replace)
        if place != final:
            # Killed between this file and the directory's own name.
            (place / MANIFEST_FILE).unlink(missing_ok=True)
        yield place, read_manifest(place) if is_there(place / MANIFEST_FILE) else None
        if place != final:
            publish(place, final)
            (final / LOCK_FILE).unlink(missing_ok=True)


def check_new(directory: str | os.PathLike[str], replace: bool) -> Path:
    """Checks that an index can be built; asked before work that takes long.

    Args:
        directory: As for `build`.
        replace: bool. As for `build`.

    Returns:
        The directory that it leads to.

    Raises:
        UserError: If it cannot.

    Example:

    ```python
    check_new("wiki.index", replace=False)
    ```
    """
    final = output_directory(FLAG, directory)
    if is_there(final / MANIFEST_FILE):
        rows = read_manifest(final).live_rows
        if not replace:
            raise UserError(
                f"{FLAG}: {shown_path(directory)} is an index of {rows} rows already: "
                "`add` adds to it, --replace builds it anew"
            )
    check_ours(final)
    return final


def add(
    directory: str | os.PathLike[str],
    source_of: Callable[[Manifest], Source],
    *,
    replace: bool = False,
) -> Added:
    """Adds rows to an index, all or none.

    After a kill, the next call with the same source goes on where it was.

    Args:
        directory: The index.
        source_of: Gives the new rows for the index' manifest.
        replace: bool. Whether a row with the id of a new one is removed. Defaults to
            `False`: it is an error.

    Raises:
        UserError: If the rows' embeddings are of another kind, an id is there already,
            the source cannot be read, or the index cannot be written.

    Example:

    ```python
    add("wiki.index", lambda manifest: source, replace=True)
    ```
    """
    source = source_of(read_manifest(Path(directory)))
    with changing(directory) as (place, before), nothing_in_vain(place, before):
        check_same_origin(directory, before, source)
        writer = SegmentWriter(
            place,
            next_name(before),
            source,
            before.dtype,
            before.columns,
            first_id=before.rows,
        )
        writer.write_records()
        if not writer.rows:
            return Added(before, 0, 0)
        check_candidates(before.candidates, before.rows + writer.rows)
        index = Index(place, before)
        there = _rows_of_new(index, writer)
        if len(there) and not replace:
            ids = index.ids(there[:_SHOWN_IDS])
            raise UserError(
                f"{source.name}: {len(there)} ids are in the index already, such as "
                f"{listed(map(shown, ids))}: --replace puts the new rows in place of "
                "the old ones"
            )
        manifest = before.changed(
            segments=(*before.segments, writer.write_embeddings()),
            columns=writer.columns,
            removed=with_removed(place, index, there),
        )
        manifest = with_candidates(place, manifest)
        write_manifest(place, manifest)
    return Added(manifest, writer.rows, len(there))


def remove(directory: str | os.PathLike[str], ids: Sequence[str]) -> Manifest:
    """Removes rows from an index, all or none.

    Args:
        directory: The index.
        ids: Sequence of strings.

    Raises:
        UserError: If an id is not in the index, or it cannot be written.

    Example:

    ```python
    remove("wiki.index", ["7", "8"])
    ```
    """
    with changing(directory) as (place, before):
        index = Index(place, before)
        rows = rows_of(index, ids)
        if missing := set(ids) - set(index.ids(rows)):
            raise UserError(
                f"{shown_path(directory)} has no {listed(map(shown, missing))} among "
                "its ids: nothing was removed"
            )
        if not len(rows):
            return before
        manifest = before.changed(removed=with_removed(place, index, rows))
        write_manifest(place, manifest)
    return manifest


def check_same_origin(
    directory: str | os.PathLike[str], index: Manifest, source: Source
) -> None:
    """Checks that embeddings can stand beside those of an index.

    Args:
        directory: The index, for messages.
        index: Its manifest.
        source: Where other embeddings come from.

    Raises:
        UserError: If another model made them, or in another way.

    Example:

    ```python
    check_same_origin("wiki.index", manifest, source)
    ```
    """
    shown_index, new = shown_path(directory), source.origin
    one, other = index.fingerprint, new.fingerprint
    known = one is not None and other is not None
    if one != other if known else index.model != new.model:
        raise UserError(
            f"{shown_index} was built with {index.model} (fingerprint {_short(one)}), "
            f"and {source.name} is embedded with {new.model} (fingerprint "
            f"{_short(other)}): expected the same model"
        )
    for what in ("dimension", "prompt"):
        there, here = getattr(index, what), getattr(new, what)
        if there != here and None not in (there, here):
            raise UserError(
                f"{shown_index} has the {what} {shown(there)}, and {source.name} "
                f"{shown(here)}: expected the same"
            )
    if index.ids_given != source.ids_given:
        raise UserError(
            f"{source.name}: expected "
            + ("ids" if index.ids_given else "rows without ids, which are counted")
            + f", as in {shown_index}"
        )
    if index.has_texts != source.has_texts:
        raise UserError(
            f"{source.name}: expected rows "
            + ("with" if index.has_texts else "without")
            + f" texts, as in {shown_index}"
        )


def _built(
    place: Path, source: Source, dtype: Dtype, kind: str | None, before: Manifest | None
) -> Manifest:
    clean(place, before)
    writer = SegmentWriter(place, next_name(before), source, dtype, {})
    writer.write_records()
    if not writer.rows:
        raise UserError(f"{source.name} holds no text, expected one a line or a row")
    candidates = Candidates(kind=kind or "flat", asked_for=kind is not None)
    check_candidates(candidates, writer.rows)
    segment = writer.write_embeddings()
    manifest = Manifest(
        generation=(before.generation if before else 0) + 1,
        **vars(source.origin),
        dtype=dtype,
        ids_given=source.ids_given,
        has_texts=source.has_texts,
        columns=writer.columns,
        segments=(segment,),
        candidates=candidates,
    )
    return with_candidates(place, manifest)


def _rows_of_new(index: Index, writer: SegmentWriter) -> np.ndarray:
    """The index' rows that have the id of a new one."""
    batches = writer.records().batches()
    return rows_of(index, (id for b in batches for id in b.column(ID).to_pylist()))


def _short(fingerprint: str | None) -> str:
    return fingerprint[:12] if fingerprint else "unknown"
