import gc
import weakref

from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.shared import shared

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]


def test_equal_tokenizers_are_one_and_others_are_not():
    one = shared(BertTokenizer(VOCABULARY))
    assert shared(BertTokenizer(VOCABULARY)) is one
    for other in (
        BertTokenizer([*VOCABULARY, "c"]),
        BertTokenizer(VOCABULARY[::-1]),
        BertTokenizer(VOCABULARY, lowercase=False),
        BertTokenizer(VOCABULARY, added_tokens=[{"content": "[SEP]", "id": 3}]),
    ):
        assert shared(other) is other


def test_a_tokenizer_goes_with_the_last_that_uses_it():
    there = weakref.ref(shared(BertTokenizer([*VOCABULARY, "gone"])))
    gc.collect()
    assert there() is None


def test_models_that_are_loaded_twice_have_one_tokenizer(tiny_preset):
    from simcse_tf import SimCSE

    one, two = (SimCSE.from_preset(str(tiny_preset)) for _ in range(2))
    assert one.tokenizer is two.tokenizer
    assert SimCSE.from_config(one.get_config()).tokenizer is one.tokenizer
