"""Makes the checkpoints of `tests/checkpoints/test_matrix.py`, and their embeddings.

Small models with random weights, written by sentence-transformers and transformers and
embedded by them, one for each thing in which the field's checkpoints differ. Run it in
two environments, with sentence-transformers 6 (and sentencepiece) and with
sentence-transformers 5, transformers 4 and Flax, on the same directory, and then pack
what they wrote:

    PEERS_6/bin/python tools/make_foreign_checkpoints.py make WORK
    PEERS_5/bin/python tools/make_foreign_checkpoints.py make WORK
    python tools/make_foreign_checkpoints.py pack WORK tests/support/foreign.tar.xz

Each checkpoint says from which other one it differs in a single switch. If the
embeddings of both were the same, reading the switch wrongly would go unnoticed, and
that is an error here.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

FILE_OF_NAMES = "index.json"
# Equal up to rounding, as distances of unit vectors.
SAME = 2e-5


def make(work: Path, only: str) -> None:
    """Writes the checkpoints of the installed version, and their embeddings."""
    import transformers
    from foreign_checkpoints import models, vocabularies
    from foreign_checkpoints.cells import all_cells
    from foreign_checkpoints.readings import by_sentence_transformers
    from foreign_checkpoints.texts import SENTENCES
    from sentence_transformers import __version__

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    models.VOCABULARIES = work / "vocabularies"
    if not models.VOCABULARIES.exists():
        vocabularies.write_vocabularies(models.VOCABULARIES)
    version = int(__version__.partition(".")[0])
    cells = [
        c for c in all_cells() if version in c.versions and re.search(only, c.name)
    ]
    embeddings: dict[str, np.ndarray] = {}
    index: dict[str, Any] = {}
    failed = []
    for number, cell in enumerate(cells):
        directory = work / f"{version}-{number:03}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        try:
            cell.write(directory)
            if cell.loads:
                read = cell.read or by_sentence_transformers
                rows = read(directory, list(SENTENCES))
                embeddings[cell.name] = np.asarray(rows, np.float32)
        except Exception as error:
            failed.append(f"{cell.name}: {type(error).__name__}: {error}")
        index[f"{version}/{cell.name}"] = {
            "directory": directory.name,
            "arguments": cell.arguments,
        }
    failed += [message for c in cells for message in complaints(c, embeddings)]
    print(f"{len(cells)} checkpoints, {len(embeddings)} with embeddings")
    named: dict[str, Any] = {
        f"{version}/{name}": rows for name, rows in embeddings.items()
    }
    np.savez(work / f"embeddings-{version}.npz", **named)
    (work / f"index-{version}.json").write_text(
        json.dumps({"sentences": SENTENCES, "cells": index}, ensure_ascii=False),
        "utf-8",
    )
    if failed:
        raise SystemExit("\n".join(failed))


def complaints(cell: Any, embeddings: dict[str, np.ndarray]) -> list[str]:
    """What is wrong with a cell's embeddings, next to those of its neighbours."""
    if cell.name not in embeddings:
        return []
    rows = unit(embeddings[cell.name])
    found = []
    if not np.isfinite(rows).all():
        found.append(f"{cell.name}: its embeddings are not finite")
    if cell.like:
        other = embeddings.get(cell.like)
        if other is None:
            found.append(f"{cell.name}: no {cell.like} to compare with")
        elif (distance := far(rows, unit(other))) > SAME:
            found.append(
                f"{cell.name}: {distance:.2e} from {cell.like}, expected the same"
            )
    if cell.unlike:
        other = embeddings.get(cell.unlike)
        if other is None:
            found.append(f"{cell.name}: no {cell.unlike} to compare with")
        elif (distance := far(rows, unit(other))) < cell.least:
            found.append(
                f"{cell.name}: {distance:.2e} from {cell.unlike}, expected {cell.least}"
            )
    return found


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def far(rows: np.ndarray, others: np.ndarray) -> float:
    """The distance of the two rows that are farthest apart; 2 for other shapes."""
    if rows.shape != others.shape:
        return 2.0
    return float(np.linalg.norm(rows - others, axis=1).max())


def pack(work: Path, archive: Path) -> None:
    """Packs the checkpoints of all versions; equal files are stored once."""
    names: dict[str, Any] = {}
    embeddings: dict[str, Any] = {}
    for path in sorted(work.glob("index-*.json")):
        part = json.loads(path.read_text("utf-8"))
        sentences = part["sentences"]
        names |= part["cells"]
    for path in sorted(work.glob("embeddings-*.npz")):
        with np.load(path) as loaded:
            embeddings |= dict(loaded)
    index = json.dumps({"sentences": sentences, "cells": names}, ensure_ascii=False)
    packed = io.BytesIO()
    np.savez(packed, **embeddings)
    first: dict[str, str] = {}
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        add(tar, first, FILE_OF_NAMES, index.encode())
        add(tar, first, "embeddings.npz", packed.getvalue())
        for cell in names.values():
            directory = work / cell["directory"]
            for file in sorted(p for p in directory.rglob("*") if p.is_file()):
                add(tar, first, str(file.relative_to(work)), file.read_bytes())
    print(f"{len(names)} checkpoints, {archive.stat().st_size:,} bytes")


def add(tar: tarfile.TarFile, first: dict[str, str], name: str, data: bytes) -> None:
    """Adds a file, or a link to an equal one. Its date is always the same."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    known = first.setdefault(hashlib.sha256(data).hexdigest(), name)
    if known != name:
        info.type, info.linkname = tarfile.LNKTYPE, known
        tar.addfile(info)
    else:
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="write the checkpoints of one version")
    maker.add_argument("work", type=Path)
    maker.add_argument("--only", default="", help="a regular expression of names")
    packer = commands.add_parser("pack", help="pack the checkpoints of all versions")
    packer.add_argument("work", type=Path)
    packer.add_argument("archive", type=Path)
    flags = parser.parse_args()
    if flags.command == "make":
        make(flags.work, flags.only)
    else:
        pack(flags.work, flags.archive)


if __name__ == "__main__":
    main()
