"""The paper's supervised training corpus as a TFDS builder."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import read_lines
from simcse_tf.datasets import source
from simcse_tf.datasets.source import COLUMNS

FILE = "nli_for_simcse.csv"


class NliForSimcse(tfds.core.GeneratorBasedBuilder):
    """Triplets of SNLI and MultiNLI (section 4 of the paper).

    `sent0` is a premise, `sent1` a sentence it entails, `hard_neg` one that
    contradicts it. Examples keep the order of the file, so that a run which does
    not shuffle can be compared with another implementation. A row in which a
    sentence is empty is not an example.

    Example:

    ```python
    datasets.register()
    tfds.load("nli_for_simcse", split="train")
    ```
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The authors' file, in its order."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = source.instructions(FILE)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Premises of SNLI and MultiNLI, each with an entailed and a "
                "contradicting hypothesis, on which supervised SimCSE is trained."
            ),
            features=tfds.features.FeaturesDict(
                {column: tfds.features.Text() for column in COLUMNS}
            ),
            homepage=source.HOMEPAGE,
            citation=source.CITATION,
            license="SNLI: CC BY-SA 4.0; MultiNLI: several, see its paper",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(source.fetch(dl_manager, FILE))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        for key, row in enumerate(read_rows(path)):
            if all(sentence.strip() for sentence in row):
                yield key, dict(zip(COLUMNS, row, strict=True))


def read_rows(path: Path) -> Iterator[list[str]]:
    """Yields the rows below the header `sent0,sent1,hard_neg` of a CSV file.

    Blank lines between rows are left out.

    Raises:
        UserError: If the header is another one, a row has not three columns, a quote
            is not closed, or a line is not UTF-8; the message names file and line.

    Example:

    ```python
    next(read_rows(Path("nli_for_simcse.csv")))  # [premise, entailed, contradicting]
    ```
    """
    # The reader wants the line ends that a quoted sentence may contain.
    rows = csv.reader((line + "\n" for line in read_lines(path)), strict=True)
    try:
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise UserError(
                f"{path}, line 1: expected the header {','.join(COLUMNS)}, "
                f"received {','.join(header)!r}"
            )
        for row in rows:
            if len(row) not in (0, len(COLUMNS)):
                raise UserError(
                    f"{path}, line {rows.line_num}: expected {len(COLUMNS)} columns "
                    f"({', '.join(COLUMNS)}), received {len(row)}"
                )
            if row:
                yield row
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}") from error
