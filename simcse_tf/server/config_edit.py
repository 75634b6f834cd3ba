"""Edits versions and labels in a `--model_config_file`; the rest stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import text_encoding, text_format

from simcse_tf.core.errors import UserError
from simcse_tf.server.text_config import read_models

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

POLICY, LABELS = "model_version_policy", "version_labels"
_NO_CONFIG = re.compile(
    r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""  # comments, strings
)


class EditableConfig:
    """One model of a `--model_config_file`.

    Args:
        path: The file.
        model: The model's name.

    Attributes:
        text: The file's text.
        versions: The versions that it lists.
        labels: A version's number by its label.

    Raises:
        UserError: The file is wrong, has no such model, or does not list its versions.

    Example:
    ```python
    config = EditableConfig(Path("serving/models.config"), "simcse")
    config.edited([1, 2], config.labels)  # the file's text, with version 2 listed
    ```
    """

    def __init__(self, path: Path, model: str):
        self.path = path
        self._whole = read_models(path)
        self.text = path.read_text("utf-8")
        models = {it.name: it for it in self._whole.model_config_list.config}
        if model not in models:
            raise UserError(f"{path}: expected model {model}, received {[*models]}")
        policy = models[model].model_version_policy
        if not policy.HasField("specific"):
            raise UserError(
                f"{path}: expected the versions of {model} by number, as in "
                f"{POLICY} {{ specific {{ versions: 1 }} }}"
            )
        self._model = model
        self.versions = list(policy.specific.versions)
        labels = models[model].version_labels
        # A map of protobuf has no order, the file has.
        in_order = sorted(labels, key=lambda label: self.text.find(f'"{label}"'))
        self.labels = {label: labels[label] for label in in_order}

    def edited(self, versions: Sequence[int], labels: Mapping[str, int]) -> str:
        """The text with other versions and labels.

        Comments stay, but for those inside of what is replaced.

        Args:
            versions: The versions to list.
            labels: A version's number by its label.

        Raises:
            UserError: The file is written in a way that this cannot edit.
        """
        text = self.text
        for field, lines in (
            (LABELS, _label_lines(labels)),
            (POLICY, _policy_lines(versions)),
        ):
            text = _replaced(text, self._model, field, lines)
        if _parsed(text) != self._wanted(versions, labels):
            raise UserError(
                f"{self.path}: expected {POLICY} and {LABELS} of {self._model} as in "
                f"serving/models.config, which an edit can replace: edit it by hand"
            )
        return text

    def _wanted(
        self, versions: Sequence[int], labels: Mapping[str, int]
    ) -> ModelServerConfig:
        wanted = type(self._whole)()
        wanted.CopyFrom(self._whole)
        for model in wanted.model_config_list.config:
            if model.name == self._model:
                model.model_version_policy.specific.versions[:] = versions
                model.version_labels.clear()
                model.version_labels.update(labels)
        return wanted


def _parsed(text: str) -> ModelServerConfig | None:
    from tensorflow_serving.config import model_server_config_pb2

    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError:
        return None


def _policy_lines(versions: Sequence[int]) -> list[str]:
    listed = [f"    versions: {version}" for version in versions]
    return [f"{POLICY} {{", "  specific {", *listed, "  }", "}"]


def _label_lines(labels: Mapping[str, int]) -> list[str]:
    lines = []
    for label, version in labels.items():
        key = text_encoding.CEscape(label, as_utf8=True)
        lines += [f"{LABELS} {{", f'  key: "{key}"', f"  value: {version}", "}"]
    return lines


def _replaced(text: str, model: str, field: str, lines: Sequence[str]) -> str:
    """The text with other messages of a field in the block of one model.

    They stand where the first of the old ones stood, or behind the policy.
    """
    bare = _NO_CONFIG.sub(lambda found: " " * len(found[0]), text)
    named = re.compile(rf"""name\s*:\s*["']{re.escape(model)}["']""")
    for start, end in _blocks(bare, "config", 0, len(bare)):
        if not named.search(text, start, end):
            continue
        old = _blocks(bare, field, start + 1, end)
        policy = _blocks(bare, POLICY, start + 1, end)
        if not policy:
            break
        line_start = text.rfind("\n", 0, policy[0][0]) + 1
        indent = " " * (policy[0][0] - line_start)
        place = old[0][0] if old else policy[-1][1]
        for first, last in reversed(old[1:]):
            text = text[:first].rstrip() + text[last:]
        if old:
            text = text[:place] + text[old[0][1] :]
        block = f"\n{indent}".join(lines)
        return text[:place] + ("" if old else f"\n{indent}") + block + text[place:]
    return text


def _blocks(bare: str, name: str, start: int, end: int) -> list[tuple[int, int]]:
    """Where the messages of a field stand, its name included."""
    found = []
    for match in re.compile(rf"\b{name}\s*:?\s*[{{<]").finditer(bare, start, end):
        depth, place = 1, match.end()
        while depth and place < end:
            depth += {"{": 1, "<": 1, "}": -1, ">": -1}.get(bare[place], 0)
            place += 1
        found.append((match.start(), place))
    return found
