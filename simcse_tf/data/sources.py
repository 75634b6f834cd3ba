"""Training data: files and TFDS data sets as reproducible streams of batches."""

from __future__ import annotations

import csv
import io
import json
import mmap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from simcse_tf import datasets
from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import LocatedLines

HEADER = ("sent0", "sent1", "hard_neg")
TFDS_SCHEME = "tfds:"

_DELIMITERS = {".csv": ",", ".tsv": "\t"}

Row = tuple[bytes, ...]


class Source(Protocol):
    """Examples that can be read in any order.

    Attributes:
        columns: int. 1 for sentences, 2 for pairs, 3 for triplets.
        skipped: int. How many blank lines were left out.
    """

    columns: int
    skipped: int

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int], epoch: int) -> list[Row]:
        """The examples at `indices`, each a tuple of `columns` UTF-8 texts.

        Those of a file are the same in every epoch; a source that draws positives
        draws others in each.
        """
        ...


def open_source(name: str) -> Source:
    """Opens the training data that a config's `data.train` names.

    A file is read through once, to check every line and to note where it starts;
    the text itself stays on disk.

    Args:
        name: string. A `.txt` file with a sentence a line; a `.csv`, `.tsv` or
            `.jsonl` file with the columns `sent0`, `sent1` and, for triplets,
            `hard_neg`; or `tfds:NAME` for a data set of tensorflow-datasets with
            the feature `sentence` or those columns.

    Raises:
        UserError: If it is missing, empty or malformed; the message names the
            file and the line.
    """
    if name.startswith(TFDS_SCHEME):
        return TFDSSource(name.removeprefix(TFDS_SCHEME))
    suffix = Path(name).suffix.lower()
    if suffix not in (".txt", ".jsonl", *_DELIMITERS):
        raise UserError(
            f"{name}: expected a .txt, .csv, .tsv or .jsonl file or tfds:NAME, "
            f"received {suffix or 'no suffix'}"
        )
    return FileSource(name)


class Record(NamedTuple):
    """Where one example stands in a file, in bytes, and what it says."""

    start: int
    end: int
    row: list[str]


class FileSource:
    """A text file whose examples are read where they stand on disk.

    Args:
        path: string. See `open_source`.

    Raises:
        UserError: See `open_source`.
    """

    def __init__(self, path: str):
        self.path = path
        self._suffix = Path(path).suffix.lower()
        self.columns = 0
        self.skipped = 0
        starts, ends = array("q"), array("q")
        for record in self._scan(LocatedLines(path)):
            if not all(text.strip() for text in record.row):
                self.skipped += 1
                continue
            starts.append(record.start)
            ends.append(record.end)
        if not starts:
            raise UserError(f"{path} is empty: expected a sentence or a row a line")
        self._starts, self._ends = np.asarray(starts), np.asarray(ends)
        with open(path, "rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        return [
            self._parse(self._text[self._starts[index] : self._ends[index]])
            for index in indices
        ]

    def _parse(self, record: bytes) -> Row:
        if self._suffix == ".txt":
            return (record.strip(b"\r\n"),)
        text = record.decode("utf-8")
        if self._suffix == ".jsonl":
            values = json.loads(text)
            row = [values[name] for name in HEADER[: self.columns]]
        else:
            row = next(self._csv_reader(io.StringIO(text, newline="")))
        return tuple(text.encode("utf-8", "surrogatepass") for text in row)

    def _scan(self, lines: LocatedLines) -> Iterator[Record]:
        if self._suffix == ".txt":
            self.columns = 1
            yield from self._scan_text(lines)
        elif self._suffix == ".jsonl":
            yield from self._scan_jsonl(lines)
        else:
            yield from self._scan_csv(lines)

    def _scan_text(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            yield Record(lines.start, lines.end, [line])

    def _scan_jsonl(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            if not line.strip():
                self.skipped += 1
                continue
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise lines.error(f"not valid JSON: {error.msg}") from None
            if not isinstance(values, dict):
                raise lines.error("expected a JSON object")
            known = [name for name in HEADER if name in values]
            others = [name for name in values if name not in HEADER]
            self._check_header(known + others, lines)
            row = [values[name] for name in HEADER[: self.columns]]
            if not all(isinstance(text, str) for text in row):
                raise lines.error("expected a string in every column")
            yield Record(lines.start, lines.end, row)

    def _scan_csv(self, lines: LocatedLines) -> Iterator[Record]:
        rows = self._csv_reader(lines)
        try:
            header = next(rows, None)
            if header is None:
                return
            self._check_header(header, lines)
            # A quoted field may hold line breaks: a record starts where the one
            # before it ended.
            start = lines.end
            for row in rows:
                if not row:
                    self.skipped += 1
                elif len(row) != self.columns:
                    raise lines.error(
                        f"expected {self.columns} columns, received {len(row)}"
                    )
                else:
                    yield Record(start, lines.end, row)
                start = lines.end
        except csv.Error as error:
            raise lines.error(str(error)) from None

    def _csv_reader(self, lines: Any) -> Any:
        return csv.reader(lines, delimiter=_DELIMITERS[self._suffix], strict=True)

    def _check_header(self, names: list[str], lines: LocatedLines) -> None:
        if not self.columns and tuple(names) in (HEADER[:2], HEADER):
            self.columns = len(names)
        if not self.columns or tuple(names) != HEADER[: self.columns]:
            expected = (
                [HEADER[: self.columns]] if self.columns else [HEADER[:2], HEADER]
            )
            raise lines.error(
                f"expected the columns {' or '.join(map(','.join, expected))}, "
                f"received {','.join(names) or 'none'}"
            )


class TFDSSource:
    """A data set of tensorflow-datasets, read in its random-access format.

    Args:
        name: string. What `tfds.builder` takes, e.g. `wiki1m_for_simcse`. It is
            downloaded and prepared where it is not yet.

    Raises:
        UserError: If there is no such data set, it cannot be prepared, or its
            features are not those of `open_source`.
    """

    def __init__(self, name: str):
        import tensorflow_datasets as tfds

        datasets.register()
        try:
            builder = tfds.builder(name, file_format="array_record")
            builder.download_and_prepare()
        except (tfds.core.DatasetNotFoundError, OSError, ValueError) as error:
            raise UserError(f"cannot prepare tfds:{name}: {error}") from error
        names = tuple(builder.info.features)
        if names not in (("sentence",), HEADER[:2], HEADER):
            raise UserError(
                f"tfds:{name}: expected the feature sentence or {','.join(HEADER[:2])} "
                f"[,{HEADER[2]}], received {','.join(names)}"
            )
        self._names = names
        self._examples = builder.as_data_source("train")
        self.columns = len(names)
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._examples)

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        examples = self._examples.__getitems__([int(index) for index in indices])
        return [tuple(example[name] for name in self._names) for example in examples]
