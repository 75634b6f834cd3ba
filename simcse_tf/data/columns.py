"""What a file's columns mean: their names say it, or a config's `data.columns`."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from simcse_tf.core.json_files import shortened, shown

# A role's column, or the columns of several hard negatives.
Columns: TypeAlias = Mapping[str, str | Sequence[str]]

ROLES = {
    "sentence": "text",
    "text": "text",
    "sent0": "anchor",
    "sent1": "positive",
    "anchor": "anchor",
    "positive": "positive",
    "sentence1": "anchor",
    "sentence2": "positive",
    "score": "score",
    "premise": "premise",
    "hypothesis": "hypothesis",
    "label": "label",
}
TEXT_NAMES = tuple(name for name, role in ROLES.items() if role == "text")
_NEGATIVE = re.compile(r"(?:hard_neg|negative)(?:_?(\d{1,4}))?")
# What pandas and others number rows with. No text has such a name.
NUMBERING = ("", "Unnamed: 0", "__index_level_0__", "id", "idx", "index")

# A file of logs may have rows of any keys.
_MOST_KNOWN = 1000

TEXT = ("text",)
PAIR = ("anchor", "positive")
_SCORED = (*PAIR, "score")
_LABELLED = ("premise", "hypothesis", "label")
_KINDS = (TEXT, PAIR, _SCORED, _LABELLED)
_EXPECTED = (
    "sent0,sent1[,hard_neg...] or anchor,positive[,negative...] or "
    "sentence1,sentence2,score or premise,hypothesis,label or text"
)
_EXPECTED_ROLES = (
    "text; anchor and positive, with negative or score; or premise, hypothesis and "
    "label"
)

# As SNLI and MNLI are published for training. Where the annotators did not agree, there
# is no label.
ENTAILMENT, NEUTRAL, CONTRADICTION, NO_LABEL = 0, 1, 2, -1
_LABELS = {
    "entailment": ENTAILMENT,
    "neutral": NEUTRAL,
    "contradiction": CONTRADICTION,
    "-": NO_LABEL,
    "": NO_LABEL,
    **{str(label): label for label in (ENTAILMENT, NEUTRAL, CONTRADICTION, NO_LABEL)},
}


class Example(NamedTuple):
    """What one row says.

    Attributes:
        texts: The texts that every row has.
        negatives: Its hard negatives, those that are not blank.
        score: string. Empty if the row has none.
        label: int. One of `ENTAILMENT`, `NEUTRAL`, `CONTRADICTION` and `NO_LABEL`.

    Example:

    ```python
    Example(("A man plays.", "A man is playing."), ("Nobody plays.",))
    ```
    """

    texts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    score: str = ""
    label: int = NO_LABEL


class Layout(NamedTuple):
    """Which of a file's columns mean what.

    Attributes:
        roles: The roles of the columns that every row has.
        names: Their columns.
        negatives: The columns of hard negatives.
        ignored: Those that say nothing.

    Example:

    ```python
    layout_of(["sent0", "sent1"]).example({"sent0": "a", "sent1": "b"})
    ```
    """

    roles: tuple[str, ...]
    names: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def scored(self) -> bool:
        """Whether each pair has a score."""
        return self.roles == _SCORED

    @property
    def labelled(self) -> bool:
        """Whether these are the premises, hypotheses and labels of NLI."""
        return self.roles == _LABELLED

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.names + self.negatives

    def example(self, values: Mapping[str, Any]) -> Example:
        """What a row says.

        Args:
            values: Its values, by column.

        Raises:
            ValueError: If a value is not what its column holds.
        """
        example = Example(
            tuple([_text(name, values[name]) for name in self.names[:2]]),
            tuple([t for n in self.negatives for t in _texts(n, values[n])]),
        )
        if self.scored:
            return example._replace(score=_score(name := self.names[2], values[name]))
        if self.labelled:
            return example._replace(label=_label(name := self.names[2], values[name]))
        return example

    def description(self) -> str:
        """The columns as they are understood.

        Example:

        ```python
        layout_of(["q", "a"], {"anchor": "q", "positive": "a"}).description()
        # "anchor: q, positive: a"
        ```
        """
        parts = [
            f"{role}: {name}" for role, name in zip(self.roles, self.names, strict=True)
        ]
        if self.negatives:
            parts.append(f"negative: {' '.join(self.negatives)}")
        if self.ignored:
            parts.append(
                f"ignored: {' '.join(name or '(no name)' for name in self.ignored)}"
            )
        return ", ".join(parts)


def layout_of(names: Sequence[str], columns: Columns | None = None) -> Layout:
    """Which columns mean what.

    Args:
        names: The columns of a file or a row.
        columns: Optional mapping of roles (`text`, `anchor`, `positive`, `negative`,
            `score`, `premise`, `hypothesis`, `label`) to columns; `negative` may have
            several. Columns that it does not name are ignored. Defaults to `None`: the
            names say it, and an unknown one is an error.

    Raises:
        ValueError: If that cannot be said.

    Example:

    ```python
    layout_of(["anchor", "positive", "negative_1", "negative_2"]).negatives
    # ("negative_1", "negative_2")
    ```
    """
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the column {min(twice)!r} is there twice")
    if columns is not None:
        return _chosen(names, columns)
    roles: dict[str, str] = {}
    negatives: dict[int, str] = {}
    for name in names:
        if numbered := _NEGATIVE.fullmatch(name):
            found = negatives.setdefault(int(numbered[1] or 1), name)
        elif name in ROLES:
            found = roles.setdefault(ROLES[name], name)
        elif name in NUMBERING:
            continue
        else:
            raise _unknown(names, f"{name!r} is none of them")
        if found != name:
            raise _unknown(names, f"{found!r} and {name!r} mean the same")
    kind = _kind_of(roles, bool(negatives))
    if kind is None:
        raise _unknown(names)
    return Layout(
        kind,
        tuple(roles[role] for role in kind),
        tuple(negatives[number] for number in sorted(negatives)),
        tuple(name for name in names if name in NUMBERING),
    )


def check_columns(columns: Columns) -> None:
    """Checks that the roles of a `data.columns` go together.

    Args:
        columns: As for `layout_of`.

    Raises:
        ValueError: If they do not.

    Example:

    ```python
    check_columns({"anchor": "question", "positive": "answer"})
    ```
    """
    if not isinstance(columns, Mapping) or not all(map(_is_names, columns.values())):
        raise ValueError(
            f"expected roles with a column or a list of columns, received "
            f"{shown(columns)}"
        )
    _kind_chosen(columns)
    names = [name for role in columns for name in _names(columns, role)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the column {min(twice)!r} has two roles")
    for role in columns:
        if role != "negative" and len(_names(columns, role)) != 1:
            raise ValueError(
                f"expected one column for {role}, received {shown(columns[role])}"
            )


class Layouts:
    """The layouts of one file's rows, which differ in hard negatives alone.

    Args:
        columns: Optional mapping. As for `layout_of`.

    Example:

    ```python
    Layouts().of(("sent0", "sent1")).roles  # ("anchor", "positive")
    ```
    """

    def __init__(self, columns: Columns | None = None):
        self._columns = columns
        self._known: dict[tuple[str, ...], Layout] = {}
        self._whole: Layout | None = None

    def of(self, names: tuple[str, ...]) -> Layout:
        """The layout of a row with the columns `names`.

        Raises:
            ValueError: If it has none, or one of another kind than the rows before.
        """
        if names in self._known:
            return self._known[names]
        layout = layout_of(names, self._columns)
        whole = self._whole or layout
        if layout.names != whole.names:
            raise ValueError(
                f"expected the columns {_listed(whole.names)} as in the rows before, "
                f"received {_listed(names)}"
            )
        self._whole = Layout(
            *whole[:2],
            # Those of both, each once.
            tuple(dict.fromkeys(whole.negatives + layout.negatives)),
            tuple(dict.fromkeys(whole.ignored + layout.ignored)),
        )
        if len(self._known) < _MOST_KNOWN:
            self._known[names] = layout
        return layout

    @property
    def texts(self) -> int:
        """How many texts every row has."""
        return len(self._whole.names[:2]) if self._whole else 1

    @property
    def scored(self) -> bool:
        """Whether each pair has a score."""
        return self._whole is not None and self._whole.scored

    @property
    def labelled(self) -> bool:
        """Whether these are the premises, hypotheses and labels of NLI."""
        return self._whole is not None and self._whole.labelled

    def whole(self) -> Layout:
        """One with the columns of all rows that were looked up.

        Raises:
            ValueError: If `data.columns` names one that no row has.
        """
        assert self._whole is not None, "no row was looked up"
        for name in _names(self._columns or {}, "negative"):
            if name not in self._whole.negatives:
                raise ValueError(f"data.columns: no row has a column {name!r}")
        return self._whole


def _chosen(names: Sequence[str], columns: Columns) -> Layout:
    kind = _kind_chosen(columns)
    required = tuple(name for role in kind for name in _names(columns, role))
    if missing := [name for name in required if name not in names]:
        raise ValueError(
            f"data.columns: expected a column {missing[0]!r}, received {_listed(names)}"
        )
    negatives = _names(columns, "negative")
    return Layout(
        kind,
        required,
        tuple(name for name in negatives if name in names),
        tuple(name for name in names if name not in (*required, *negatives)),
    )


def _is_names(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return (
        isinstance(names, list | tuple)
        and bool(names)
        and all(isinstance(name, str) for name in names)
    )


def _kind_chosen(columns: Columns) -> tuple[str, ...]:
    kind = _kind_of(columns, "negative" in columns)
    if kind is None or set(columns) - {*kind, "negative"}:
        raise ValueError(
            f"expected the roles {_EXPECTED_ROLES}; received {_listed(columns)}"
        )
    return kind


def _kind_of(roles: Iterable[str], negatives: bool) -> tuple[str, ...] | None:
    for kind in (PAIR,) if negatives else _KINDS:
        if set(roles) - {"negative"} == set(kind):
            return kind
    return None


def _names(columns: Columns, role: str) -> tuple[str, ...]:
    names = columns.get(role, ())
    return (names,) if isinstance(names, str) else tuple(names)


def _unknown(names: Sequence[str], reason: str = "") -> ValueError:
    because = f" ({reason})" if reason else ""
    return ValueError(
        f"expected the columns {_EXPECTED}, received {_listed(names)}{because}; "
        "data.columns says what others mean"
    )


def _listed(names: Iterable[str]) -> str:
    return shortened(",".join(names)) or "none"


def _texts(name: str, value: Any) -> list[str]:
    """The texts of a hard negative's column that are not blank."""
    values = value if isinstance(value, list) else (value,)
    return [text for value in values if (text := _text(name, value)).strip()]


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise ValueError(f"expected a string in {name}, received {shown(value)}")


def _score(name: str, value: Any) -> str:
    text = value.strip() if isinstance(value, str) else value
    if text is None or text == "":
        return ""
    try:
        # Python's numbers may also have underscores and truth values.
        if isinstance(text, bool) or "_" in str(text):
            raise ValueError
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number in {name}, received {shown(value)}")
    return repr(number)


def _label(name: str, value: Any) -> int:
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value) if whole else "" if value is None else value)
    label = _LABELS.get(text.strip().lower())
    if label is None or isinstance(value, bool):
        raise ValueError(
            f"expected entailment, neutral or contradiction, 0, 1 or 2 in {name}, "
            f"received {shown(value)}"
        )
    return label
