"""What a run says before its first step."""

import math
from collections.abc import Iterable

import keras

from simcse_tf.data.base import kind_of
from simcse_tf.model.compilation import padded_lengths
from simcse_tf.model.simcse import SimCSE
from simcse_tf.training.run_data import RunData


def report_data(data: RunData, resume: bool, done: int) -> None:
    """Prints how the data were read, and how much there is to do.

    Args:
        data: The run's data.
        resume: bool. Whether the user asked to resume.
        done: int. Steps that are done already.

    Example:

    ```python
    report_data(data, resume=False, done=0)  # 1000 triplets; 15 steps an epoch, ...
    ```
    """
    source = data.source
    for note in source.notes:
        print(note)
    print(
        f"{len(source)} {kind_of(source)}; {data.steps_per_epoch} steps an epoch, "
        f"{data.last_step} in all"
    )
    if data.plan:
        print(data.plan.note)
    if done:
        print(f"resuming after step {done}")
    elif resume:
        print("no checkpoint yet: the run starts from the beginning")


def report_lora(model: SimCSE, rank: int | None) -> None:
    """Prints what is trained, where it is not the whole model.

    Args:
        model: The model.
        rank: Optional int. That of the low-rank matrices; `None` where there are none.

    Example:

    ```python
    report_lora(model, 8)  # LoRA of rank 8: 26 of 128 variables are trained, ...
    ```
    """
    if rank is None:
        return
    trained, everything = model.trainable_variables, model.weights
    share = _parameters(trained) / _parameters(everything)
    print(
        f"LoRA of rank {rank}: {len(trained)} of {len(everything)} variables are "
        f"trained, {_parameters(trained):,} of {_parameters(everything):,} parameters "
        f"({share:.2%})"
    )


def _parameters(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def report_compilation(model: SimCSE) -> None:
    """Prints that the first steps take long, where XLA compiles them.

    Example:

    ```python
    report_compilation(model)  # nothing on a CPU
    ```
    """
    if model.step_is_compiled:
        lengths = ", ".join(map(str, padded_lengths(model.max_length)))
        print(
            "XLA compiles the step once for each length of batches that occurs "
            f"({lengths} tokens): up to a minute on a GPU the first time"
        )
