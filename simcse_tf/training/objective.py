"""The objective that a config describes."""

from simcse_tf.objectives.base import Objective
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.distillation import Distillation
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.objectives.matryoshka import Matryoshka
from simcse_tf.objectives.mixed_negatives import MixedNegatives
from simcse_tf.objectives.momentum_queue import MomentumQueue
from simcse_tf.objectives.negatives import Negatives
from simcse_tf.objectives.ranking import RankingConsistency
from simcse_tf.objectives.scored_pairs import AnglE, CoSENT
from simcse_tf.training.config_sections import ObjectiveConfig
from simcse_tf.training.teacher import Teacher


def objective_of(
    config: ObjectiveConfig,
    teacher: Teacher | None = None,
    guide: Teacher | None = None,
) -> Objective:
    """The objective that a config's `objective` section describes.

    Args:
        config: The section.
        teacher: Optional `Teacher`, where the section names one.
        guide: Optional `Teacher`, where the section names a guide.

    Example:

    ```python
    objective_of(ObjectiveConfig(temperature=0.1))  # Contrastive(temperature=0.1)
    ```
    """
    objective = _embedding_objective(config, guide)
    if config.matryoshka:
        objective = Matryoshka(objective, config.matryoshka, config.matryoshka_weights)
    if config.mlm_weight:
        objective += MaskedLM(config.mlm_weight, config.mlm_probability)
    if config.consistency_weight:
        objective += RankingConsistency(config.consistency_weight, config.temperature)
    if config.teacher and teacher:
        objective += Distillation(
            teacher.embeddings,
            config.teacher.loss,
            config.teacher.weight,
            config.teacher.temperature,
            teacher.anchors_only,
        )
    return objective


def _embedding_objective(config: ObjectiveConfig, guide: Teacher | None) -> Objective:
    if config.scored:
        return {"cosent": CoSENT, "angle": AnglE}[config.kind](config.temperature)
    negatives: list[Negatives] = []
    if config.queue_size:
        negatives.append(MomentumQueue(config.queue_size, config.momentum))
    if config.mix_negatives:
        negatives.append(MixedNegatives(config.mix_negatives))
    return Contrastive(
        config.temperature,
        config.hard_negative_weight,
        config.same_mask,
        config.mask_duplicates,
        config.false_negative_margin,
        guide.embeddings if guide else None,
        negatives,
    )
