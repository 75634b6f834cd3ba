"""The files of a user's own dev and test data: pairs, triplets, retrieval sets."""

import csv
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.core.parquet_rows import PARQUET
from simcse_tf.core.row_files import RowFile, json_row, split_rows
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.evaluation.own_sets import RetrievalSet, Triplets
from simcse_tf.evaluation.sts_files import Pairs

SUFFIXES = (".csv", ".tsv", ".jsonl", PARQUET)

_SCORED = ("sentence1", "sentence2", "score")
_TRIPLETS = (("anchor", "positive", "negative"), ("sent0", "sent1", "hard_neg"))
_COLUMNS = {name for names in (_SCORED, *_TRIPLETS) for name in names}
_QRELS = ("query-id", "corpus-id", "score")
# The share of relevant documents that a corpus may lack.
_FEW = 0.01


class _Row(NamedTuple):
    """A row's cells by column, and where it stands."""

    cells: Mapping[str, Any]
    place: str


def read_table(path: Path) -> Pairs | Triplets:
    """Reads scored pairs or triplets; the names of the columns tell which.

    Other columns are ignored. A pair without a score is left out. In a `.tsv`, quotes
    are text like any other.

    Args:
        path: A `.csv`, `.tsv` or `.jsonl` file, also with `.gz` or `.zst` behind that,
            or a `.parquet` file, with the columns `sentence1`, `sentence2`,
            `score`, or `anchor`, `positive`, `negative` (also `sent0`, `sent1`,
            `hard_neg`).

    Raises:
        UserError: The file cannot be read, has other columns, or a row is malformed;
            the message names the file and the line.

    Example:

    ```python
    read_table(Path("dev.csv")).scores
    ```
    """
    rows = list(_rows(path))
    columns = _known_columns(path, rows[0].cells if rows else {})
    if columns == _SCORED:
        return _pairs(path, rows)
    texts = [tuple(_text(row, name) for name in columns) for row in rows]
    return Triplets(*([row[i] for row in texts] for i in range(3)))


def read_retrieval(directory: Path, qrels: Path) -> RetrievalSet:
    """Reads a retrieval set in BEIR's layout.

    A query without a relevant document is left out. A relevant document that is not in
    the corpus counts as not found, as in BEIR.

    Args:
        directory: Holds `corpus.jsonl` (`_id`, `title`, `text`) and `queries.jsonl`
            (`_id`, `text`).
        qrels: Which documents are relevant: a tab-separated file with the header
            `query-id`, `corpus-id`, `score`.

    Raises:
        UserError: A file cannot be read, a line is malformed, a judgement names a query
            that is not there, or the corpus lacks more than a hundredth of what is
            relevant.

    Example:

    ```python
    read_retrieval(Path("scifact"), Path("scifact/qrels/test.tsv")).queries
    ```
    """
    documents = _texts(directory / "corpus.jsonl")
    queries = _texts(directory / "queries.jsonl")
    relevant: dict[str, dict[str, int]] = {}
    for row in _rows(qrels):
        if not set(_QRELS) <= set(row.cells):
            raise UserError(
                f"{qrels}, line 1: expected a header with {', '.join(_QRELS)}, "
                f"received {', '.join(row.cells)!r}"
            )
        query, document, relevance = (str(row.cells[name]) for name in _QRELS)
        if query not in queries:
            raise UserError(f"{row.place}: {shown(query)} is not in queries.jsonl")
        if (value := _relevance(relevance, row.place)) > 0:
            relevant.setdefault(query, {})[document] = value
    if not relevant:
        raise UserError(f"{qrels} holds no relevant document")
    _tell_missing(qrels, relevant, documents)
    asked = {query: queries[query] for query in relevant}
    return RetrievalSet(asked, documents, relevant)


def _tell_missing(
    qrels: Path,
    relevant: Mapping[str, Mapping[str, int]],
    documents: Mapping[str, str],
) -> None:
    every = [name for judged in relevant.values() for name in judged]
    missing = [name for name in every if name not in documents]
    if not missing:
        return
    what = f"{qrels}: {len(missing)} of {len(every)} relevant documents, such as "
    what += f"{shown(missing[0])}, are not in corpus.jsonl"
    # BEIR's own ArguAna lacks a few; a corpus that was cut off lacks more.
    if len(missing) > _FEW * len(every):
        raise UserError(f"{what}: expected the whole corpus")
    warnings.warn(f"{what}: they count as not found", RuntimeWarning, stacklevel=2)


def _pairs(path: Path, rows: Sequence[_Row]) -> Pairs:
    scored = [
        (_text(row, "sentence1"), _text(row, "sentence2"), score)
        for row in rows
        if (score := _score(row)) is not None
    ]
    scores = np.array([score for _, _, score in scored], np.float64)
    if not scored or np.ptp(scores) == 0:
        raise UserError(
            f"{path}: expected pairs with different scores, received {len(scored)} "
            + (f"with the score {scores[0]:g}" if scored else "pairs with a score")
        )
    return Pairs([a for a, _, _ in scored], [b for _, b, _ in scored], scores)


def _rows(path: Path) -> Iterator[_Row]:
    file = RowFile(str(path), _used)
    lines = file.lines()
    if file.suffix == ".jsonl":
        for line in lines:
            if line.strip():
                yield _Row(json_row(line, lines), lines.place)
        return
    header: list[str] = []
    # Few of this field's TSVs are quoted.
    comma = file.suffix == ".csv"
    try:
        for cells in split_rows(lines, "," if comma else "\t", quoted=comma):
            if not any(cells):
                continue
            if not header:
                header = [name.strip() for name in cells]
            elif len(cells) != len(header):
                raise lines.error(
                    f"expected {len(header)} columns, received {len(cells)}"
                )
            else:
                yield _Row(dict(zip(header, cells, strict=True)), lines.place)
    except csv.Error as error:
        raise lines.error(str(error)) from None


def _used(names: Sequence[str]) -> Sequence[str]:
    """The columns that are read of a Parquet file."""
    known = [name for name in names if name in _COLUMNS]
    # A message names them all.
    return known if _fitting(known, {}) else names


def _known_columns(path: Path, found: Mapping[str, Any]) -> tuple[str, ...]:
    # A JSON line may leave its score out.
    is_json = suffixes_of(str(path))[0] == ".jsonl"
    fitting = _fitting(found, {_SCORED: _SCORED[:2]} if is_json else {})
    if len(fitting) != 1:
        expected = " or ".join(map(",".join, (_SCORED, *_TRIPLETS)))
        raise UserError(
            f"{path}: expected rows with the columns {expected}, received "
            f"{shown(','.join(found)) if found else 'none'}"
        )
    return fitting[0]


def _fitting(
    found: Iterable[str], required: Mapping[tuple[str, ...], tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """The kinds of rows that have such columns, or those that are required of them."""
    names = set(found)
    return [
        columns
        for columns in (_SCORED, *_TRIPLETS)
        if names.issuperset(required.get(columns, columns))
    ]


def _text(row: _Row, column: str) -> str:
    text = row.cells.get(column)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{row.place}: {column}: expected text, received {shown(text)}")
    return text


def _score(row: _Row) -> float | None:
    value = row.cells.get("score")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{row.place}: expected a score, received {shown(value)}")
    return score


def _texts(path: Path) -> dict[str, str]:
    """The texts of a corpus or of queries by their ids, a title before its text."""
    texts: dict[str, str] = {}
    for row in _rows(path):
        name, title = row.cells.get("_id"), row.cells.get("title") or ""
        text = row.cells.get("text")
        if not isinstance(name, str | int) or not isinstance(text, str):
            raise UserError(f"{row.place}: expected an _id and a text")
        if str(name) in texts:
            raise UserError(f"{row.place}: the _id {shown(name)} is there twice")
        texts[str(name)] = f"{title} {text}".strip()
    if not texts:
        raise UserError(f"{path} holds no text")
    return texts


def _relevance(text: str, place: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"{place}: expected a whole number as score, received {shown(text)}"
        ) from None
