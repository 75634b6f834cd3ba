"""The teacher that a run's config names, and its embeddings of the training texts."""

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

_KEY = "objective.teacher"


class Teacher:
    """A teacher that is loaded.

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
    try:
        model = SimCSE.from_preset(
            settings.model,
            pooling=settings.pooling,
            max_length=settings.max_length,
            prompt_name=settings.prompt,
        )
    except UserError as error:
        raise UserError(f"{_KEY}: {error}") from None
    length = settings.max_length or longest_input(model.backbone)
    say_how_read(model, settings.model, length)
    kept = KeptEmbeddings(model, DistinctTexts(source), length, _KEY)
    if progress.teacher and progress.teacher != kept.key:
        raise UserError(
            f"--resume: {_KEY}.model {settings.model} is not the teacher that the run "
            "began with: that is another run"
        )
    progress.teacher = kept.key
    return Teacher(kept, anchors_only=isinstance(source, AugmentedSource))
