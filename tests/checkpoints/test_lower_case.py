"""`do_lower_case` of sentence-transformers, before the tokenizer."""

import json
import shutil

import pytest

from simcse_tf.checkpoints.load import load_tokenizer
from simcse_tf.core.errors import UserError


def test_an_added_token_in_capitals_is_refused(checkpoints, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(checkpoints.arguments("6/old/do_lower_case")["preset"], directory)
    size = load_tokenizer(str(directory)).vocabulary_size
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    token = {"content": "WOW", "normalized": True, **flags}

    def change(file, **values):
        path = directory / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    added = json.loads((directory / "tokenizer.json").read_text())["added_tokens"]
    tokens = [*added, {"id": size, **token}]
    change("config.json", vocab_size=size + 1)
    change("tokenizer.json", added_tokens=tokens)
    decoder = {str(each["id"]): each for each in tokens}
    change("tokenizer_config.json", added_tokens_decoder=decoder)

    with pytest.raises(UserError, match="do_lower_case beside the added token 'WOW'"):
        load_tokenizer(str(directory))
