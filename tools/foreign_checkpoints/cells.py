"""All checkpoints of the matrix."""

from collections.abc import Iterator

from foreign_checkpoints.cell import Cell
from foreign_checkpoints.module_cells import module_cells
from foreign_checkpoints.other_cells import other_cells
from foreign_checkpoints.plain_cells import plain_cells
from foreign_checkpoints.pooling_cells import length_cells, pooling_cells, prompt_cells
from foreign_checkpoints.tokenizer_cells import tokenizer_cells
from foreign_checkpoints.weight_cells import config_cells, weight_cells


def all_cells() -> Iterator[Cell]:
    """Every checkpoint, for each version that writes it."""
    yield from pooling_cells()
    yield from module_cells()
    yield from prompt_cells()
    yield from length_cells()
    yield from tokenizer_cells()
    yield from config_cells()
    yield from weight_cells()
    yield from plain_cells()
    yield from other_cells()
