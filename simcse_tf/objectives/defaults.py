"""The paper's settings of the objectives. Needs no TensorFlow, which configs avoid."""

TEMPERATURE = 0.05
HARD_NEGATIVE_WEIGHT = 0.0
MASK_DUPLICATES = True
# BERT's own (Devlin et al. 2019, section 3.1).
MLM_PROBABILITY = 0.15
# ESimCSE's (Wu et al. 2022, section 4.1).
MOMENTUM = 0.995
# The kinds of objective that are trained on pairs with scores.
SCORED_KINDS = ("cosent", "angle")
DISTILLATION_WEIGHT = 1.0
DISTILLATION_LOSSES = ("listnet", "listmle", "embedding", "score")
