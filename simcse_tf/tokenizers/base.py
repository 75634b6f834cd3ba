"""What the model, the objectives and the export ask of a tokenizer."""

from typing import Any, Protocol

import tensorflow as tf

from simcse_tf.tokenizers.added_tokens import AddedToken


class Tokenizer(Protocol):
    """Turns raw text into token ids, as TensorFlow operations.

    A tokenizer runs eagerly, in `tf.data`, in a `tf.function` and in a SavedModel, and
    gives the same ids in all of them: it is a part of every exported model.

    Attributes:
        vocabulary: list of string. The tokens; a token's position is its id.
        pad_token_id: int. Fills a row up.
        cls_token_id: int. Begins every row.
        sep_token_id: int. Ends every row.
        mask_token_id: int or `None`. Stands for a token to be predicted. `None`
            where the vocabulary has no such token: the masked language model is then
            not available.

    Example:

    ```python
    def lengths(tokenizer: Tokenizer, texts: list[str]) -> tf.Tensor:
        return tokenizer(texts, max_length=32).row_lengths()
    ```
    """

    vocabulary: list[str]
    pad_token_id: int
    cls_token_id: int
    sep_token_id: int
    mask_token_id: int | None
    added_tokens: tuple[AddedToken, ...]

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.vocabulary)

    @property
    def special_token_ids(self) -> tuple[int, ...]:
        """The ids of the tokens that stand for no text, and are never predicted."""
        return (self.pad_token_id, self.cls_token_id, self.sep_token_id)

    def __call__(self, text: Any, max_length: int) -> tf.RaggedTensor:
        """Tokenizes a batch of texts.

        Args:
            text: String tensor of shape `[n]`, or what converts to one.
            max_length: int, at least 2. The most ids in a row, with those that
                begin and end it. What does not fit is cut before the last.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`.

        Raises:
            UserError: If `max_length` is not an int of at least 2, or `text`
                does not have one dimension.
        """
        ...

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, without the vocabulary.

        `type(tokenizer)(tokenizer.vocabulary, **tokenizer.get_config())` is the same
        tokenizer again. The values have a form in JSON.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Returns what KerasHub's files do not hold of vocabulary and `get_config()`.

        `type(tokenizer).from_keras_hub(tokenizer.to_keras_hub(),
        **tokenizer.settings())` is the same tokenizer again.
        """
        ...

    @classmethod
    def from_keras_hub(cls, tokenizer: Any, **settings: Any) -> "Tokenizer":
        """Takes vocabulary and settings over from KerasHub's tokenizer.

        Args:
            tokenizer: KerasHub's tokenizer.
            **settings: What `settings()` gave, if anything.
        """
        ...

    def to_keras_hub(self) -> Any:
        """Returns KerasHub's tokenizer, which knows the file format."""
        ...
