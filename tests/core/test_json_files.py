import json

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, write_json


def test_what_is_written_is_read_and_ends_in_a_newline(tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(path, {"avg": 81.6, "é": [1, None]})
    assert read_json(path) == {"avg": 81.6, "é": [1, None]}
    assert path.read_text() == json.dumps({"avg": 81.6, "é": [1, None]}, indent=2) + (
        "\n"
    )
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        (b"\xff", "is not UTF-8 text"),
        (b"{", "is not valid JSON: .* at line 1, column 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_users_mistake(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)
