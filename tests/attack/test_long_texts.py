"""A long text costs little, whatever it holds."""

import time
from pathlib import Path

import pytest
import tensorflow as tf

from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer
from simcse_tf.tokenizers.byte_pair_model import byte_characters
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

SIZE = 4_000_000
# Some times what it takes on an idle machine.
SECONDS, MEGABYTES = 20, 120
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = {"▁": -2.0, "a": -3.0, "b": -3.5, "ab": -4.0, "▁a": -3.75}
TOKENIZERS = {
    "WordPiece": lambda: BertTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a", "##b", "!"]
    ),
    "BPE": lambda: RobertaTokenizer(
        [*SPECIAL, *byte_characters().values(), "ab", "aa"], ["a b", "a a"]
    ),
    "Unigram": lambda: XLMRobertaTokenizer(
        [*SPECIAL, *PIECES], [0.0] * 4 + [*PIECES.values()]
    ),
}
TEXTS = {
    "words": b"so a man is ",
    "one word": b"a",
    "signs": b"!",
    "white space": b" ",
    "unknown characters": "\ue000".encode(),
    "marks": "\u0301".encode(),
    "letters and nothing": "a\u200b".encode(),
    "not UTF-8": b"\xff",
}


def resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_long_text_costs_little_time_and_memory(name):
    tokenizer = TOKENIZERS[name]()
    tokenizer(["a " * 100_000], 512)
    for kind, part in TEXTS.items():
        text = tf.constant([part * (SIZE // len(part))])
        # The peak begins anew.
        Path("/proc/self/clear_refs").write_text("5")
        before, begun = resident("VmRSS"), time.process_time()
        tokenizer(text, 512)
        assert time.process_time() - begun < SECONDS, kind
        assert resident("VmHWM") - before < MEGABYTES, kind
