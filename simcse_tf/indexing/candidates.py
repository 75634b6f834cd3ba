"""Which rows may be nearest to a query: what faiss proposes, before exact scores.

| kind | what it is | for |
|---|---|---|
| `flat` | nothing: every row is compared | up to 100,000 rows |
| `hnsw` | a graph of neighbours over float16 vectors | up to 500,000 |
| `ivfpq` | lists of nearby rows, each row a few bytes | more |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require
from simcse_tf.indexing.faiss_files import faiss_module, write_faiss

KINDS = ("flat", "hnsw", "ivfpq")
# From so many rows on the next kind is chosen.
_HNSW_ROWS = 100_000
_IVFPQ_ROWS = 500_000

# A code book of 256 entries learns from 39 vectors each, which is what faiss asks for.
_PER_CENTROID = 39
_FEWEST_ROWS = {"flat": 0, "hnsw": 1, "ivfpq": 256 * _PER_CENTROID}
# Vectors that the lists and code books learn from, at most.
_SAMPLE = 163_840
# Vectors handed to faiss at a time.
_AT_ONCE = 16_384

# Which parameter says how hard a search tries, and how many rows it proposes for
# each that is wanted: the codes of `ivfpq` are coarse.
_EFFORT = {"hnsw": "ef_search", "ivfpq": "nprobe"}
_PROPOSED = {"hnsw": 2, "ivfpq": 10}
_FEWEST_PROPOSED = 20

Blocks = Callable[[int], Iterable[tuple[int, np.ndarray]]]


def kind_for(rows: int) -> str:
    """The kind for so many rows, where none is asked for.

    Args:
        rows: int. 0 or more.

    Example:

    ```python
    kind_for(1_000_000)  # "hnsw"
    ```
    """
    if rows < _HNSW_ROWS:
        return "flat"
    return "hnsw" if rows < _IVFPQ_ROWS else "ivfpq"


def check_kind(kind: str, rows: int, what: str = "--kind") -> None:
    """Checks that a kind exists, suits so many rows and can be built here.

    Args:
        kind: string. One of `KINDS`.
        rows: int. How many it will cover.
        what: string. What named the kind, for the message.

    Raises:
        UserError: If it does not, or faiss is missing.

    Example:

    ```python
    check_kind("ivfpq", 100)
    # UserError: --kind: ivfpq learns from 9984 rows or more, received 100: use flat
    ```
    """
    if kind not in KINDS:
        raise UserError(f"{what}: expected one of {', '.join(KINDS)}, received {kind}")
    if rows < _FEWEST_ROWS[kind]:
        raise UserError(
            f"{what}: {kind} learns from {_FEWEST_ROWS[kind]} rows or more, received "
            f"{rows}: use flat"
        )
    if kind != "flat":
        require("faiss", extra="search")


def parameters_for(
    kind: str, rows: int, dimension: int, seed: int = 0
) -> dict[str, Any]:
    """What a kind is built and searched with.

    Args:
        kind: string. One of `KINDS`.
        rows: int. How many it will cover.
        dimension: int. Of the vectors.
        seed: int. Of all that is drawn by chance.

    Returns:
        Parameters by name, for JSON; none for `"flat"`.

    Example:

    ```python
    parameters_for("ivfpq", 1_000_000, 384)
    # {"lists": 4096, "bytes": 96, "nprobe": 64, "seed": 0}
    ```
    """
    if kind == "hnsw":
        return {"links": 32, "ef_construction": 200, "ef_search": 128, "seed": seed}
    if kind == "ivfpq":
        lists = 2 ** round(np.log2(4 * np.sqrt(rows)))
        return {
            "lists": int(min(lists, rows // _PER_CENTROID)),
            "bytes": _code_bytes(dimension),
            "nprobe": 64,
            "seed": seed,
        }
    return {}


def build(
    path: str | os.PathLike[str],
    blocks: Blocks,
    rows: int,
    kind: str,
    parameters: dict[str, Any],
) -> None:
    """Builds what proposes rows, and writes it to a file.

    Vectors are read in blocks, twice for `"ivfpq"`, which learns from a sample first.
    The same vectors and parameters give the same file on one kind of machine: a graph
    is built by one thread, because its links depend on the order of the vectors.

    Args:
        path: The file to write. For `"flat"` none is needed.
        blocks: Called with the number of vectors at a time; gives pairs of the first
            row's number and the block, float32 `(m, dim)` of unit length, from row 0
            on, `rows` in all or more: the rest is left out.
        rows: int. How many rows it covers, the first ones.
        kind: string. `"hnsw"` or `"ivfpq"`.
        parameters: As `parameters_for` returns them.

    Raises:
        OSError: The file cannot be written.

    Example:

    ```python
    parameters = parameters_for("hnsw", index.rows, index.dimension)
    build("candidates.faiss", index.blocks, index.rows, "hnsw", parameters)
    ```
    """
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()
    if kind == "hnsw":
        faiss.omp_set_num_threads(1)
    try:
        index = None
        for first, block in blocks(_AT_ONCE):
            if first >= rows:
                break
            if index is None:
                index = learned(kind, block.shape[1], blocks, rows, parameters)
            index.add(np.ascontiguousarray(block[: rows - first], np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    assert index is not None, "there were no rows"
    write_faiss(index, path)


def learned(
    kind: str, dimension: int, blocks: Blocks, rows: int, parameters: dict[str, Any]
) -> Any:
    """An index of faiss that has learned from a sample, and has no row yet.

    Args:
        kind: As for `build`.
        dimension: int. Of the vectors.
        blocks: As for `build`.
        rows: As for `build`.
        parameters: As for `build`.

    Example:

    ```python
    learned("ivfpq", 384, index.blocks, index.rows, parameters).ntotal  # 0
    ```
    """
    index = _empty(kind, dimension, parameters)
    if not index.is_trained:
        index.train(_sample(blocks, rows, parameters["seed"]))
    return index


class Candidates:
    """What proposes the rows that may be nearest to a query, read from its file.

    The file is mapped to memory: what a search does not touch is not read.

    Args:
        path: As `build` wrote it.
        kind: string. The kind that it was built as.
        parameters: The parameters that it was built with.

    Raises:
        UserError: If faiss is missing, or cannot read the file.

    Example:

    ```python
    candidates = Candidates("candidates.faiss", "hnsw", parameters)
    candidates.nearest(queries, 10)  # rows, int64 (q, 20)
    ```
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: str, parameters: dict[str, Any]
    ):
        require("faiss", extra="search")
        faiss = faiss_module()
        mapped = {
            "hnsw": faiss.IO_FLAG_MMAP_IFC,
            "ivfpq": faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY,
        }
        try:
            self._index = faiss.read_index(os.fspath(path), mapped[kind])
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{Path(path)}: faiss cannot read it: {reason}") from None
        self._kind = kind
        self._effort = int(parameters[_EFFORT[kind]])

    @property
    def rows(self) -> int:
        """How many rows it covers, the first ones."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self._index.d)

    def nearest(
        self,
        queries: np.ndarray,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        effort: int | None = None,
    ) -> np.ndarray:
        """Rows among which the `k` nearest to each query should be.

        Args:
            queries: float32 `(q, dim)`, of unit length.
            k: int. At least 1.
            allowed: Optional bool `(rows,)`. Which rows may be proposed.
            effort: Optional int. How hard the search tries: for `"hnsw"` the nodes
                that it keeps in view (`efSearch`), for `"ivfpq"` the lists that it
                reads (`nprobe`). Defaults to `None`: as it was built.

        Returns:
            int64 `(q, proposed)`, in no certain order; -1 where fewer were found.
        """
        faiss = faiss_module()
        proposed = max(_FEWEST_PROPOSED, _PROPOSED[self._kind] * k)
        proposed = min(proposed, self.rows)
        settings: dict[str, Any] = {}
        if allowed is not None:
            bits = np.packbits(allowed[: self.rows], bitorder="little")
            settings["sel"] = faiss.IDSelectorBitmap(bits)
        effort = effort or self._effort
        if self._kind == "hnsw":
            settings["efSearch"] = max(effort, proposed)
            how = faiss.SearchParametersHNSW(**settings)
        else:
            settings["nprobe"] = effort
            how = faiss.SearchParametersIVF(**settings)
        queries = np.ascontiguousarray(queries, np.float32)
        found: np.ndarray = self._index.search(queries, proposed, params=how)[1]
        return found


def _empty(kind: str, dimension: int, parameters: dict[str, Any]) -> Any:
    faiss = faiss_module()
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(
            dimension, faiss.ScalarQuantizer.QT_fp16, parameters["links"], product
        )
        index.hnsw.efConstruction = parameters["ef_construction"]
        index.hnsw.rng = faiss.RandomGenerator(parameters["seed"])
        # float16 has nothing to learn.
        index.train(np.zeros((1, dimension), np.float32))
        return index
    lists = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(
        lists, dimension, parameters["lists"], parameters["bytes"], 8, product
    )
    # The lists live as long as the index.
    index.own_fields = True
    lists.this.disown()
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = parameters["seed"]
        clustering.min_points_per_centroid = 1
    return index


def _sample(blocks: Blocks, rows: int, seed: int) -> np.ndarray:
    """Vectors of rows drawn by chance, in the order of the rows."""
    random = np.random.default_rng(seed)
    size = min(rows, _SAMPLE)
    drawn = np.sort(random.choice(rows, size, replace=False, shuffle=False))
    parts = []
    for first, block in blocks(_AT_ONCE):
        begin, end = np.searchsorted(drawn, [first, first + len(block)])
        parts.append(block[drawn[begin:end] - first])
        if end == size:
            break
    return np.concatenate(parts)


def _code_bytes(dimension: int) -> int:
    """One byte for four dimensions, or as near as divides them."""
    at_most = max(1, dimension // 4)
    return max(n for n in range(1, at_most + 1) if dimension % n == 0)
