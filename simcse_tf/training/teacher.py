"""Other models that a config names, and their embeddings of the training texts."""

from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.distinct_texts import DistinctTexts
from simcse_tf.data.positives import AugmentedSource
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoding.arguments import say_how_read
from simcse_tf.encoding.text_embeddings import KeptEmbeddings
from simcse_tf.model.simcse import SimCSE
from simcse_tf.objectives.text_embeddings import TextEmbeddings
from simcse_tf.training.config import Config
from simcse_tf.training.progress import Progress

_KEY, _GUIDE_KEY = "objective.teacher", "objective.false_negative_guide"


class Teacher:
    """A teacher or a guide that is loaded.

    Args:
        kept: Its embeddings, which may not be computed yet.
        anchors_only: bool. Whether it embeds anchors alone, because positives are made
            of them as training goes on.

    Example:

    ```python
    teacher = load_teacher(config, data.source, progress)
    teacher.compute([])
    ```
    """

    def __init__(self, kept: KeptEmbeddings, anchors_only: bool):
        self._kept = kept
        self.anchors_only = anchors_only

    @property
    def embeddings(self) -> TextEmbeddings:
        """Its embeddings of the training texts."""
        return self._kept.embeddings

    def compute(self, problems: list[UserError]) -> None:
        """Computes its embeddings, unless an earlier run has.

        Args:
            problems: Gets what a lookup in an input pipeline raises.

        Raises:
            UserError: See `KeptEmbeddings.compute`.
        """
        self._kept.compute()
        self.embeddings.problems = problems


def embed_texts(*teachers: Teacher | None) -> list[UserError]:
    """Computes the embeddings of those that are there.

    Returns:
        List that gets what a lookup in an input pipeline raises.

    Raises:
        UserError: See `KeptEmbeddings.compute`.

    Example:

    ```python
    problems = embed_texts(teacher, guide)
    ```
    """
    problems: list[UserError] = []
    for teacher in filter(None, teachers):
        teacher.compute(problems)
    return problems


def load_teacher(config: Config, source: Source, progress: Progress) -> Teacher | None:
    """Loads the teacher that a config names; `None` if it names none.

    Texts are cut where the teacher has no more positions, or at its `max_length`.

    Args:
        config: A `simcse_tf.training.config.Config`.
        source: The run's examples.
        progress: How far the run has come, and with which teacher. One that begins gets
            it written there.

    Raises:
        UserError: If it cannot be loaded, or the run began with another one.

    Example:

    ```python
    load_teacher(config, data.source, progress).embeddings.dim  # 768
    ```
    """
    settings = config.objective.teacher
    if settings is None:
        return None
    kept = _load(
        _KEY,
        settings.model,
        source,
        progress.teacher,
        pooling=settings.pooling,
        max_length=settings.max_length,
        prompt_name=settings.prompt,
    )
    progress.teacher = kept.key
    return Teacher(kept, anchors_only=isinstance(source, AugmentedSource))


def load_guide(config: Config, source: Source, progress: Progress) -> Teacher | None:
    """Loads what says which candidates are false negatives, if a config names it.

    Args:
        config: A `simcse_tf.training.config.Config`.
        source: The run's examples.
        progress: As for `load_teacher`.

    Raises:
        UserError: As `load_teacher`.

    Example:

    ```python
    load_guide(config, data.source, progress).embeddings.dim  # 384
    ```
    """
    name = config.objective.false_negative_guide
    if name is None:
        return None
    kept = _load(_GUIDE_KEY, name, source, progress.guide)
    progress.guide = kept.key
    return Teacher(kept, anchors_only=False)


def _load(
    key: str, name: str, source: Source, begun_with: str, **settings: Any
) -> KeptEmbeddings:
    try:
        model = SimCSE.from_preset(name, **settings)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    length = settings.get("max_length") or longest_input(model.backbone)
    say_how_read(model, name, length)
    kept = KeptEmbeddings(model, DistinctTexts(source), length, key)
    if begun_with and begun_with != kept.key:
        raise UserError(
            f"--resume: {key}: {name} is not the model that the run began with: that "
            "is another run"
        )
    return kept
