"""A Keras model of text: from strings to the backbone's inputs."""

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.model.compilation import padded_lengths
from simcse_tf.model.text_inputs import string_tensor
from simcse_tf.objectives.views import column_names
from simcse_tf.tokenizers.base import Tokenizer


class TextModel(keras.Model):
    """Tokenizes the strings that its methods get. `SimCSE` is one.

    Attributes:
        backbone: The backbone, which names the features.
        tokenizer: The backbone's tokenizer.
        max_length: int. Longer token sequences are cut.
        prompt: string. Put before every text.
        static_shapes: bool. Whether batches are padded to one of a few lengths.

    Example:

    ```python
    model = SimCSE.from_preset("models/mine")
    model.tokenize(["A man is playing a guitar."])  # [[101, 1037, ...]]
    ```
    """

    backbone: keras_hub.models.Backbone
    tokenizer: Tokenizer
    max_length: int
    static_shapes: bool

    @property
    def prompt(self) -> str:
        """What is put before every text. It may be set, as to one of `prompts`."""
        return self._prompt

    @prompt.setter
    def prompt(self, value: str) -> None:
        if not isinstance(value, str):
            raise UserError(f"prompt must be a string; received {value!r}")
        self._prompt = value
        # It is a part of the traced graph.
        self.__dict__.pop("_traced_tokens", None)
        self._check_prompt(value)

    @contextmanager
    def behind(self, prompt: str | None) -> Iterator[None]:
        """Within the block a prompt stands before every text.

        Args:
            prompt: Optional string. If `None`, the model's own.

        Example:

        ```python
        with model.behind(model.prompts["query"]):
            queries = model.predict(["who plays the guitar?"])
        ```
        """
        before = self.prompt
        if prompt is not None and prompt != before:
            self.prompt = prompt
        try:
            yield
        finally:
            if self.prompt != before:
                self.prompt = before

    def _check_prompt(self, prompt: str) -> None:
        if not prompt:
            return
        [tokens] = self.tokenizer(tf.constant([prompt]), self.max_length).to_list()
        if len(tokens) >= self.max_length:
            raise UserError(
                f"the prompt {prompt!r} alone fills max_length, {self.max_length} "
                "tokens, and every text would be cut away: expected a shorter prompt "
                "or a larger max_length"
            )

    @property
    def embedding_dim(self) -> int:
        """Columns of what `predict` returns."""
        raise NotImplementedError

    def tokens(
        self, text: Any, max_length: int | None = None, prompt: str | None = None
    ) -> tf.RaggedTensor:
        """Tokenizes sentences behind a prompt, in the graph.

        Whatever embeds text takes its tokens from here.

        Args:
            text: string tensor of shape `(n,)`.
            max_length: Optional int. Defaults to the model's.
            prompt: Optional string. Defaults to the model's.

        Returns:
            int32 ragged tensor of shape `(n, None)`.
        """
        prompt = self.prompt if prompt is None else prompt
        if prompt:
            text = tf.strings.join([prompt, text])
        return self.tokenizer(text, max_length or self.max_length)

    def preprocess(self, text: Any) -> Any:
        """Tokenizes and pads sentences, in the graph.

        Args:
            text: string tensor of shape `(n,)`.

        Returns:
            Dictionary of int32 tensors of shape `(n, length of the longest)`, or
            the next of `padded_lengths` with static shapes: the backbone's inputs.
        """
        [features] = self._preprocess([text])
        return features

    def _preprocess(
        self, columns: Sequence[Any], prompts: Sequence[str] = ()
    ) -> list[Any]:
        """Tokenizes columns; with static shapes all are padded to one length."""
        prompts = prompts or [self.prompt] * len(columns)
        tokens = [
            self.tokens(column, prompt=prompt)
            for column, prompt in zip(columns, prompts, strict=True)
        ]
        length = self._static_length(tokens) if self.static_shapes else None
        return [self.pad(each, length) for each in tokens]

    def _static_length(self, tokens: Sequence[tf.RaggedTensor]) -> Any:
        lengths = padded_lengths(self.max_length)
        if len(lengths) == 1:
            return lengths[0]
        longest = tf.reduce_max(tf.concat([t.row_lengths() for t in tokens], axis=0))
        lengths = tf.constant(lengths, tf.int64)
        return lengths[tf.searchsorted(lengths, longest[None])[0]]

    def pad(self, tokens: tf.RaggedTensor, length: Any = None) -> Any:
        """Pads token ids.

        Args:
            tokens: int32 ragged tensor of shape `(n, None)`.
            length: Optional int or int scalar. Defaults to that of the longest row.

        Returns:
            What `preprocess` returns.
        """
        shape = tf.stack([-1, length]) if tf.is_tensor(length) else (None, length)
        token_ids = tokens.to_tensor(self.tokenizer.pad_token_id, shape=shape)
        return self.features(token_ids, tokens.row_lengths())

    def features(self, token_ids: tf.Tensor, lengths: tf.Tensor) -> Any:
        """The backbone's inputs for token ids that are padded.

        Args:
            token_ids: int32 tensor of shape `(n, length)`.
            lengths: int tensor of shape `(n,)`. How many of each row are tokens.

        Returns:
            What `preprocess` returns.
        """
        features = {
            "token_ids": token_ids,
            # int32 and not bool: `tf.distribute` cannot sum bool tensors.
            "padding_mask": tf.sequence_mask(
                lengths, tf.shape(token_ids)[1], dtype=tf.int32
            ),
            "segment_ids": tf.zeros_like(token_ids),
        }
        return {name: features[name] for name in self.backbone.input}

    def tokenize(self, texts: Any) -> list[list[int]]:
        """Token ids of sentences behind the prompt, cut at `max_length`.

        Args:
            texts: List, NumPy array or tensor of strings, shape `(n,)`.

        Returns:
            List of `n` lists of int, such as `[CLS]` ... `[SEP]`.
        """
        return self._traced_tokens(string_tensor(texts), self.max_length).to_list()

    def token_ids(
        self, texts: Sequence[bytes], max_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of sentences, one after the other, for any number of threads.

        Args:
            texts: Sequence of `n` UTF-8 strings.
            max_length: int. Longer token sequences are cut.

        Returns:
            int32 array of shape `(tokens,)`, and how many each sentence has, `(n,)`.
        """
        tokens = self._traced_tokens(string_tensor(texts), max_length)
        return tokens.values.numpy(), np.diff(tokens.row_splits.numpy())

    @functools.cached_property
    def _traced_tokens(self) -> Any:
        # A `tf.data` pipeline copies the vocabulary whenever it is started, which
        # would cost `predict` more than a short list's embeddings do.
        return tf.function(self._tokens_on_cpu, reduce_retracing=True)

    def _tokens_on_cpu(self, text: tf.Tensor, max_length: int) -> tf.RaggedTensor:
        # Strings are there. A GPU would get small operations on indices, one by one.
        with tf.device("CPU"):
            return self.tokens(text, max_length)

    def prepare(self, *columns: tf.Tensor) -> dict[str, Any]:
        """Tokenizes one training batch.

        Args:
            *columns: String tensors of shape `(n,)`: anchors, positives, hard
                negatives.

        Returns:
            Dictionary of `"anchor"`, and of `"positive"`, `"hard_negative"`,
            `"hard_negative_2"` and so on where given, to what `preprocess` returns.

        Raises:
            ValueError: If there is none.
        """
        if not columns:
            raise ValueError("Expected a column of sentences or more. Received: none")
        names = column_names(len(columns))
        features = self._preprocess(columns, self._column_prompts(len(columns)))
        return dict(zip(names, features, strict=True))

    def _column_prompts(self, columns: int) -> list[str]:
        """What stands before the texts of each of a training batch's columns."""
        return [self.prompt] * columns

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
    ) -> None:
        """Writes a SavedModel of `predict`, as `keras.Model.export` does.

        `simcse_tf.export.export` writes one for TF Serving: with more signatures,
        fast for mixed lengths, warmed up and checked.

        Args:
            filepath: The directory. Its signature `serving_default` maps `text`,
                string `(n,)`, to `embedding`, float32 `(n, embedding_dim)`.
            format: string. Only `"tf_saved_model"`: tokens are made by TensorFlow.
            verbose: Optional bool. Whether to print the signature. Defaults to
                `None`, which prints it.

        Raises:
            UserError: If another format is asked for.
        """
        if format != "tf_saved_model":
            raise UserError(
                f"format: expected tf_saved_model, received {format}: tokens are made "
                "by TensorFlow's operations"
            )

        def serve(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": self.predict_step(self.preprocess(text))}

        archive = keras.export.ExportArchive()
        text_type = tf.TensorSpec([None], tf.string, "text")
        archive.add_endpoint("serving_default", serve, [text_type])
        archive.write_out(str(filepath), verbose=verbose is not False)

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        # What `tf.saved_model.save` reads. It would write a model that takes no text,
        # and that TF Serving cannot run.
        if save_type == "savedmodel":
            raise UserError(
                "tf.saved_model.save writes no signature for text: call "
                "model.export(directory), or simcse_tf.export.export for TF Serving"
            )
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)
        return children
