"""The file of Unicode tables is what its script makes of the `tokenizers` package."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from simcse_tf.tokenizers import unicode_tables

SCRIPT = Path(__file__).parents[2] / "tools" / "make_unicode_tables.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, SCRIPT.stem, module)
        spec.loader.exec_module(module)
        yield module


# What it is made of is asked of the reference in test_bert_tokenizer.py, too.
@pytest.mark.attack
def test_the_file_is_what_the_script_makes(script):
    made = script.make_arrays()
    with np.load(unicode_tables.FILE) as arrays:
        assert set(arrays.files) == set(made)
        for name, array in made.items():
            assert arrays[name].dtype == array.dtype, name
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_the_file_is_small():
    assert unicode_tables.FILE.stat().st_size < 200_000


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize("setting", unicode_tables.SETTINGS)
def test_every_code_point_has_a_row(setting, chinese):
    table = unicode_tables.code_point_table(*setting, chinese)
    page_size = unicode_tables.PAGE_SIZE
    assert table.pages.shape == (0x110000 // page_size,)
    assert table.rows.size == (table.pages.max() + 1) * page_size
    assert table.row_splits.size == table.rows.max() + 2
    assert table.row_splits[-1] == table.codes.size
    assert (np.diff(table.row_splits) >= 0).all()


def test_a_mark_of_a_class_that_the_scale_lacks_is_an_error(script):
    acute, cedilla, horn = "\u0301", "\u0327", "\u031b"
    scale = {230: acute, 202: cedilla}
    assert script._class_of("\u0300", scale) == 230
    with pytest.raises(LookupError, match=r"U\+031B"):
        script._class_of(horn, scale)
