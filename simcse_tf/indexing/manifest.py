"""An index' manifest: what the index is. What it does not name is not part of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simcse_tf.core.contents import sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, write_json
from simcse_tf.core.regular_files import is_there, shown_path
from simcse_tf.encoding.column_types import ColumnType
from simcse_tf.version import __version__

MANIFEST_FILE = "manifest.json"
# Another number for directories of another form.
FORMAT = 1


class _Part(BaseModel):
    """JSON with the keys of its class and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(_Part):
    """A file of an index.

    Attributes:
        path: Where it is in the directory.
        size: Bytes.
        sha256: Its hash.

    Example:

    ```python
    StoredFile.of(Path("wiki.index"), "segments/000001-ab12/vectors.npy").size
    ```
    """

    # Another's index must not name what is outside of it.
    path: str = Field(pattern=r"^(segments/\w+|candidates|removed)/\w+\.\w+$")
    size: int = Field(ge=0)
    sha256: str

    @classmethod
    def of(cls, directory: Path, path: str) -> StoredFile:
        """A file that has just been written.

        Args:
            directory: The index.
            path: string. Where it is in there.
        """
        file = directory / path
        return cls(path=path, size=file.stat().st_size, sha256=sha256(file))

    def check(self, directory: Path, hashes: bool = False) -> None:
        """Checks that the file is there as it was written.

        Args:
            directory: The index.
            hashes: bool. Whether all of it is read, not its size alone. Defaults to
                `False`.

        Raises:
            UserError: If it is not.
        """
        file = directory / self.path
        shown = shown_path(directory)
        if not is_there(file):
            raise UserError(f"{shown} is damaged: {self.path} is missing")
        size = file.stat().st_size
        if size != self.size:
            raise UserError(
                f"{shown} is damaged: {self.path} has {size} bytes, expected "
                f"{self.size}"
            )
        if hashes and sha256(file) != self.sha256:
            raise UserError(
                f"{shown} is damaged: {self.path} is not as it was written (SHA-256)"
            )


class Segment(_Part):
    """Rows that were written together, and are never changed.

    Attributes:
        rows: How many.
        vectors: The NumPy file of their embeddings.
        records: The Arrow file of their ids, texts and metadata.

    Example:

    ```python
    index.manifest.segments[0].rows  # 1000000
    ```
    """

    rows: int = Field(ge=0)
    vectors: StoredFile
    records: StoredFile


class Removed(_Part):
    """Rows that are there and count no more.

    Attributes:
        rows: How many.
        file: The NumPy file of their numbers, int64, in order.

    Example:

    ```python
    index.manifest.removed  # None, where there are none
    ```
    """

    rows: int = Field(ge=1)
    file: StoredFile


class Candidates(_Part):
    """The structure that proposes rows for a query.

    Attributes:
        kind: `"flat"`: all rows. Others are of `simcse_tf.indexing.candidates`.
        asked_for: Whether the user chose it; else it follows from the number of rows.
        parameters: What it was built with.
        rows: How many it covers, the first ones.
        file: The file; `None` for `"flat"`.

    Example:

    ```python
    index.manifest.candidates.kind  # "flat"
    ```
    """

    kind: str = "flat"
    asked_for: bool = False
    parameters: dict[str, Any] = {}
    rows: int = Field(default=0, ge=0)
    file: StoredFile | None = None


class Manifest(_Part):
    """The content of an index' `manifest.json`.

    Attributes:
        format: Of the directory.
        version: Of the package that wrote it.
        generation: Counts the changes.
        model: The MODEL argument, as it was given.
        fingerprint: Of `simcse_tf.encoding.fingerprint.model_fingerprint`; `None`
            where nobody knows it, such as behind an endpoint.
        pooling: The pooler; `None` if unknown, as the next three.
        max_length: Tokens at which a text was cut.
        prompt: What stood before each text.
        dimension: Of an embedding.
        truncate_dim: How many of the model's dimensions were kept; `None`: all.
        dtype: What embeddings are stored as.
        ids_given: Whether ids stood in the input; else rows are counted from 0.
        has_texts: Whether texts are stored.
        columns: The types of the metadata's columns.
        segments: The rows, in order.
        removed: Which of them count no more.
        candidates: What proposes rows for a query.

    Example:

    ```python
    read_manifest(Path("wiki.index")).rows  # 1000000
    ```
    """

    format: int = FORMAT
    version: str = __version__
    generation: int = Field(default=0, ge=0)
    model: str
    fingerprint: str | None
    pooling: str | None = None
    max_length: int | None = None
    prompt: str | None = None
    dimension: int = Field(ge=1)
    truncate_dim: int | None = None
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    ids_given: bool
    has_texts: bool
    columns: dict[str, ColumnType] = {}
    segments: tuple[Segment, ...] = ()
    removed: Removed | None = None
    candidates: Candidates = Candidates()

    @model_validator(mode="after")
    def _check_rows(self) -> Manifest:
        removed = self.removed.rows if self.removed else 0
        if max(removed, self.candidates.rows) > self.rows:
            raise ValueError(f"expected parts of at most {self.rows} rows")
        return self

    @property
    def rows(self) -> int:
        """How many there are, removed ones too."""
        return sum(segment.rows for segment in self.segments)

    @property
    def live_rows(self) -> int:
        """How many count."""
        return self.rows - (self.removed.rows if self.removed else 0)

    @property
    def files(self) -> list[StoredFile]:
        """All files that belong to the index."""
        found = [f for s in self.segments for f in (s.vectors, s.records)]
        found += [self.removed.file] if self.removed else []
        return found + ([self.candidates.file] if self.candidates.file else [])

    def changed(self, **values: Any) -> Manifest:
        """The manifest after one more change.

        Args:
            values: The attributes that are others.
        """
        new = {"generation": self.generation + 1, "version": __version__, **values}
        return self.model_copy(update=new)


def read_manifest(directory: Path) -> Manifest:
    """Reads and checks an index' manifest.

    Args:
        directory: The index.

    Raises:
        UserError: If there is none, or it is not as this version writes it.

    Example:

    ```python
    read_manifest(Path("wiki.index")).model  # "runs/sup/best"
    ```
    """
    shown = shown_path(directory)
    if not directory.is_dir():
        what = "it is a file" if directory.exists() else "there is no such directory"
        raise UserError(f"{shown}: expected an index, a directory: {what}")
    if not is_there(directory / MANIFEST_FILE):
        raise UserError(
            f"{shown}: expected an index, found no {MANIFEST_FILE}: `index build` "
            "writes one, and goes on where it was killed"
        )
    values = read_json(directory / MANIFEST_FILE)
    if isinstance(values, Mapping) and values.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"{shown}: expected an index of format {FORMAT}, received format "
            f"{values['format']}, of version {values.get('version')} of simcse_tf"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "it"
        raise UserError(
            f"{shown}: {MANIFEST_FILE} is damaged: {key}: {first['msg']}"
        ) from None


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Makes a manifest that of an index, in one move.

    Args:
        directory: The index.
        manifest: What the index is from now on. All that it names is on the disk.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_manifest(directory, manifest.changed(removed=None))
    ```
    """
    write_json(directory / MANIFEST_FILE, manifest.model_dump())
