"""The file of classes is what its script makes of the `tokenizers` package."""

import importlib.util
from pathlib import Path

import numpy as np

from simcse_tf.tokenizers import character_classes
from simcse_tf.tokenizers.character_classes import LETTER, NUMBER, OTHER, SPACE

SCRIPT = Path(__file__).parents[2] / "tools" / "make_character_classes.py"


def test_the_file_is_what_the_script_makes():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.make_arrays()
    with np.load(character_classes.FILE) as arrays:
        assert set(arrays.files) == set(made)
        for name, array in made.items():
            assert arrays[name].dtype == array.dtype, name
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_each_code_point_has_its_class():
    classes = character_classes.character_classes()
    assert classes.shape == (0x110000,)
    for characters, expected in (
        ("aÉ中ʰ", LETTER),
        ("7²Ⅷ", NUMBER),
        (" \n\x85\u3000", SPACE),
        ("!_\u0301\x1c\u200b\0", OTHER),
    ):
        assert {classes[ord(c)] for c in characters} == {expected}
