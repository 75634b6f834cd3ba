"""Models with equal tokenizers share one, whose graph is then traced once."""

import json
from typing import TypeVar
from weakref import WeakValueDictionary

from simcse_tf.tokenizers.base import Tokenizer

T = TypeVar("T", bound=Tokenizer)

# A tokenizer stays here as long as something uses it.
_in_use: WeakValueDictionary[tuple[object, ...], Tokenizer] = WeakValueDictionary()


def shared(tokenizer: T) -> T:
    """The first tokenizer that is equal to this one and still in use.

    Tracing takes longer than making a tokenizer, and a process often loads several
    models with one vocabulary: two to compare, or the best checkpoint after a run.

    Args:
        tokenizer: The tokenizer. Nobody changes it from now on.

    Returns:
        A tokenizer of the same class, vocabulary and configuration.

    Example:

    ```python
    shared(BertTokenizer("vocab.txt")) is shared(BertTokenizer("vocab.txt"))  # True
    ```
    """
    config = json.dumps(tokenizer.get_config(), sort_keys=True)
    key = (type(tokenizer), tuple(tokenizer.vocabulary), config)
    return _in_use.setdefault(key, tokenizer)  # type: ignore[return-value]
