"""A model's embeddings of the training texts, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.contents import check_hashes, contents_of, sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, write_json
from simcse_tf.core.locks import Locked, locked
from simcse_tf.core.outputs import output_directory, writing_output
from simcse_tf.core.regular_files import is_there, shown_path
from simcse_tf.data.distinct_texts import DistinctTexts
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.partial_array import partial_array
from simcse_tf.model.bulk import encode_blocks, pays_to_compile, progress_bar
from simcse_tf.objectives.text_embeddings import (
    EMBEDDINGS_FILE,
    FINGERPRINTS_FILE,
    TextEmbeddings,
)

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

# Another number for files of another form.
_FORMAT = 1
# Names the files' hashes. Written last: where it is, the others are whole.
_CARD_FILE = "card.json"
_POLL_SECONDS = 1.0


class KeptEmbeddings:
    """A model's embeddings of some texts, in the user's cache directory.

    Nothing is computed before `compute` is called.

    Args:
        model: A `simcse_tf.SimCSE`.
        texts: The texts.
        max_length: Optional int. Tokens a text is cut at. Defaults to `None`: the
            model's own.
        name: string. What messages call the model. Defaults to `"model"`.

    Attributes:
        key: string. Follows from the model, its prompt, its pooling, where texts are
            cut, and the texts: other ones have other embeddings.
        embeddings: A `TextEmbeddings`, to be read once they are computed.

    Raises:
        UserError: If there is no home directory for them.

    Example:

    ```python
    kept = KeptEmbeddings(teacher, DistinctTexts(open_source("sentences.txt")))
    kept.compute()
    kept.embeddings.look_up(np.array([[b"A man plays."]], object)).shape  # (1, 1, 768)
    ```
    """

    def __init__(
        self,
        model: SimCSE,
        texts: DistinctTexts,
        max_length: int | None = None,
        name: str = "model",
    ):
        self._model = model
        self._texts = texts
        self._max_length = max_length or model.max_length
        self._name = name
        about = [_FORMAT, model_fingerprint(model), self._max_length, texts.digest]
        self.key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        self._directory = _cache() / self.key[:32]
        self.embeddings = TextEmbeddings(self._directory, model.embedding_dim)

    def compute(self) -> None:
        """Computes them, unless an earlier run has.

        A run that is killed loses little: the next one goes on where it was. If
        another process computes them, this one waits. Damaged ones are computed again.

        Raises:
            UserError: If they cannot be written, the texts can no longer be read, or an
                embedding is not finite.
        """
        waits = False
        while not self._is_whole():
            output_directory(self._name, self._directory)
            busy = f"{self._name}: another process embeds the same texts"
            try:
                with locked(self._directory.with_suffix(".lock"), busy):
                    # It may have ended in between.
                    if not self._is_whole():
                        self._write()
            except Locked as other:
                if not waits:
                    print(f"{other}: waiting for it", file=sys.stderr)
                waits = True
                time.sleep(_POLL_SECONDS)

    def _is_whole(self) -> bool:
        card = self._directory / _CARD_FILE
        try:
            if not is_there(card):
                return False
            hashes = read_json(card)
            names = {FINGERPRINTS_FILE, EMBEDDINGS_FILE}
            if not isinstance(hashes, dict) or set(hashes) != names:
                raise UserError(f"{card.name} is not as it was written")
            check_hashes(self._directory, contents_of(self._directory).files, hashes)
        except UserError as error:
            place = shown_path(self._directory)
            print(f"{self._name}: {place}: {error}: computed again", file=sys.stderr)
            return False
        return True

    def _write(self) -> None:
        directory, texts, model = self._directory, self._texts, self._model
        final = directory / EMBEDDINGS_FILE
        shape = (len(texts), model.embedding_dim)
        megabytes = 4 * shape[0] * shape[1] / 1e6
        print(
            f"{self._name}: embeds {len(texts)} distinct texts once, into "
            f"{shown_path(directory)} ({megabytes:.0f} MB)",
            file=sys.stderr,
        )
        with writing_output(self._name, directory):
            directory.mkdir(parents=True, exist_ok=True)
            (directory / _CARD_FILE).unlink(missing_ok=True)
            with (
                atomic_write(directory / FINGERPRINTS_FILE) as path,
                path.open("wb") as file,
            ):
                np.save(file, texts.fingerprints)
            with (
                partial_array(final, shape, self.key) as array,
                progress_bar(len(texts), True, array.rows_done) as bar,
            ):
                done = array.rows_done
                for rows in encode_blocks(
                    model,
                    texts.blocks(done),
                    max_length=self._max_length,
                    advance=bar.update,
                    jit_compile=pays_to_compile(model, len(texts) - done),
                ):
                    array.append(rows)
            names = (FINGERPRINTS_FILE, EMBEDDINGS_FILE)
            hashes = {name: sha256(directory / name) for name in names}
            write_json(directory / _CARD_FILE, hashes)


def _cache() -> Path:
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise UserError(
            "there is no home directory to keep embeddings in: let XDG_CACHE_HOME name "
            "a directory"
        ) from None
    return caches / "simcse_tf" / "embeddings"
