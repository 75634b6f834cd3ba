"""Training examples in a file, read where they stand on disk."""

from __future__ import annotations

from collections.abc import Sequence

from simcse_tf.core.errors import UserError
from simcse_tf.core.parquet_rows import PARQUET, parquet_unpacker
from simcse_tf.core.stored_files import StoredFile, decompression, suffixes_of
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.base import Row, Source, kind_of
from simcse_tf.data.columns import TEXT, Columns, Layout, Layouts, check_columns
from simcse_tf.data.examples import Example
from simcse_tf.data.file_formats import SUFFIXES, file_format
from simcse_tf.data.nli import NLISource
from simcse_tf.data.repeats import repeats_told
from simcse_tf.data.row_index import RowIndex, index_rows


def open_file(
    path: str, columns: Columns | None = None, quoting: str | None = None
) -> Source:
    """Opens a training file.

    It is read through once, to check every row and to note where it stands; the text
    itself stays on disk.

    Args:
        path: string. A `.txt`, `.csv`, `.tsv` or `.jsonl` file, also with `.gz` or
            `.zst` behind that, or a `.parquet` file.
        columns: Optional mapping of roles to columns; see
            `simcse_tf.data.columns.layout_of`. Defaults to `None`: the names of the
            columns say what they mean.
        quoting: Optional string. `"quoted"` or `"none"`, for `.csv` and `.tsv`; see
            `simcse_tf.data.file_formats.file_format`.

    Returns:
        The file's examples. The rows of NLI become triplets.

    Raises:
        UserError: If it is missing, empty or malformed; the message names the file and
            the line.

    Example:

    ```python
    open_file("questions.csv.gz", {"anchor": "question", "positive": "answer"})
    ```
    """
    rows = FileSource(path, columns, quoting)
    if rows.nli is None:
        return rows
    return NLISource(path, rows, rows.nli.hashes, rows.nli.labels)


class FileSource:
    """The rows of a file, read where they stand on disk.

    From the first reading on the file must stay as it is. One that is put in its place
    does no harm: the old one stays open.

    Args:
        path: string. As for `open_file`.
        columns: Optional mapping. As for `open_file`.
        quoting: Optional string. As for `open_file`.

    Raises:
        UserError: See `open_file`.

    Example:

    ```python
    FileSource("sentences.txt").read([1])  # [(b"A dog runs.",)]
    ```
    """

    varies = False

    def __init__(
        self,
        path: str,
        columns: Columns | None = None,
        quoting: str | None = None,
    ):
        self.path = path
        suffix, packing = _suffixes(path, columns, quoting)
        is_parquet = suffix == PARQUET
        self._format = file_format(".jsonl" if is_parquet else suffix, columns, quoting)
        layouts = self._format.layouts
        unpack = decompression(packing)
        if is_parquet:
            unpack = parquet_unpacker(path, lambda names: layouts.of(names).used)
        self._file = StoredFile(path, unpack)
        lines = LocatedLines(
            path,
            self._file.lines(),
            unit="row" if is_parquet else "line",
        )
        index = index_rows(self._format, lines)
        self._file.check_unchanged()
        if not len(index.starts):
            raise UserError(f"{path} is empty: expected a sentence or a row a line")
        layout = _whole(layouts, path)
        self._starts, self._ends = index.starts, index.ends
        self.columns = layouts.texts + index.negatives
        self.scored, self.skipped = layout.scored, index.skipped
        self.nli = index if layout.labelled else None
        self.notes: Sequence[str] = (
            f"{path}: {self._told(layout, index, lines.unit)}",
        )

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`; `sha256sum` prints the same digest."""
        return f"sha256 {self._file.digest}"

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        records = self._file.read(
            self._starts[indices].tolist(), self._ends[indices].tolist()
        )
        return [self._row(self._format.parse(record)) for record in records]

    def _row(self, example: Example) -> Row:
        lacking = self.columns - len(example.texts) - len(example.negatives)
        texts = [*example.texts, *example.negatives, *[""] * lacking]
        if self.scored:
            texts.append(example.score)
        return tuple(text.encode("utf-8", "surrogatepass") for text in texts)

    def _told(self, layout: Layout, index: RowIndex, unit: str) -> str:
        """How the file was read, for the start of a run."""
        kind = "labelled pairs" if layout.labelled else kind_of(self)
        first, last = index.longest.first, index.longest.last
        place = f"{unit} {first}" if first == last else f"{unit}s {first} to {last}"
        plain = layout == Layout(TEXT, TEXT)
        columns = "" if plain else f" ({layout.description()})"
        parts = [f"{len(self)} {kind}{columns}"]
        if index.skipped:
            blank = "score" if layout.scored else "text"
            parts.append(f"{index.skipped} rows with a blank {blank} left out")
        if not layout.labelled:
            parts.append(repeats_told(index.hashes))
        parts.append(f"the longest has {index.longest.characters} characters ({place})")
        return "; ".join(parts)


def _suffixes(
    path: str, columns: Columns | None, quoting: str | None
) -> tuple[str, str]:
    """A file's suffix, and that of its compression, which may be empty."""
    suffix, packing = suffixes_of(path)
    if suffix not in SUFFIXES and (suffix != PARQUET or packing):
        raise UserError(
            f"{path}: expected a .txt, .csv, .tsv or .jsonl file, also with .gz or "
            f".zst, or a .parquet file, received {suffix + packing or 'no suffix'}"
        )
    if quoting is not None and suffix not in (".csv", ".tsv"):
        raise UserError(f"data.quoting: expected a .csv or .tsv file, received {path}")
    if columns is not None:
        try:
            check_columns(columns)
        except ValueError as error:
            raise UserError(f"data.columns: {error}") from None
        if suffix == ".txt" and "text" not in columns:
            raise UserError(f"data.columns: {path} holds a sentence a line, no columns")
    return suffix, packing


def _whole(layouts: Layouts, path: str) -> Layout:
    try:
        return layouts.whole()
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
