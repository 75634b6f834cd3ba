"""The paper's unsupervised training corpus as a TFDS builder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from simcse_tf.core.text_lines import read_lines
from simcse_tf.datasets import source

FILE = "wiki1m_for_simcse.txt"


class Wiki1mForSimcse(tfds.core.GeneratorBasedBuilder):
    """One million sentences of English Wikipedia (section 3 of the paper).

    Examples keep the order of the file, so that a run which does not shuffle can be
    compared with another implementation. An empty line is not an example.

    Example:

    ```python
    datasets.register()
    tfds.load("wiki1m_for_simcse", split="train")
    ```
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The authors' file, in its order."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = source.instructions(FILE)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "A million sentences drawn at random from English Wikipedia, on "
                "which unsupervised SimCSE is trained."
            ),
            features=tfds.features.FeaturesDict({"sentence": tfds.features.Text()}),
            homepage=source.HOMEPAGE,
            citation=source.CITATION,
            license="CC BY-SA 3.0 (text of Wikipedia)",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(source.fetch(dl_manager, FILE))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        for key, line in enumerate(read_lines(path)):
            if line.strip():
                yield key, {"sentence": line}
