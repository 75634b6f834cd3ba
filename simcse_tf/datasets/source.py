"""The paper's corpora: their columns, where their files are, and how to cite them."""

from pathlib import Path
from typing import Any

# A premise, a sentence it entails, and one that contradicts it.
COLUMNS = ("sent0", "sent1", "hard_neg")

HOMEPAGE = "https://github.com/princeton-nlp/SimCSE"
URL = "https://huggingface.co/datasets/princeton-nlp/datasets-for-simcse/resolve/main/"
CITATION = """\
@inproceedings{gao2021simcse,
  title={{SimCSE}: Simple Contrastive Learning of Sentence Embeddings},
  author={Gao, Tianyu and Yao, Xingcheng and Chen, Danqi},
  booktitle={Empirical Methods in Natural Language Processing (EMNLP)},
  year={2021}
}
"""


def instructions(name: str) -> str:
    """The text that TFDS shows a user whose machine cannot download the file `name`.

    Example:

    ```python
    MANUAL_DOWNLOAD_INSTRUCTIONS = instructions("wiki1m_for_simcse.txt")
    ```
    """
    return f"""\
    Only for machines without access to the internet: put {name}, from {URL}{name},
    into the manual directory. It is then used instead of a download.
    """


def fetch(dl_manager: Any, name: str) -> Path:
    """The file `name` of the paper's authors.

    Args:
        dl_manager: The `tfds.download.DownloadManager`.
        name: Name of a file under `URL`.

    Returns:
        The file in the manual directory if there is one, else the downloaded file.

    Example:

    ```python
    fetch(dl_manager, "wiki1m_for_simcse.txt")
    ```
    """
    try:
        manual = Path(dl_manager.manual_dir, name)
    except AssertionError:  # TFDS's answer where there is no manual directory.
        return Path(dl_manager.download(URL + name))
    return manual if manual.exists() else Path(dl_manager.download(URL + name))
