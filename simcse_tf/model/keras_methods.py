"""Keras' own methods on strings: `fit`, `predict`, and a batch at a time."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simcse_tf.core.vectors import check_finite
from simcse_tf.encoders.embedder import Embedder
from simcse_tf.model.batches import check_limit
from simcse_tf.model.bulk import encode_array
from simcse_tf.model.inference import Embed
from simcse_tf.model.keras_arguments import (
    BATCH_SIZE,
    check_epochs,
    checked_batch_size,
    has_tokens,
    is_prepared,
    refuse,
    refuse_losses,
    split,
)
from simcse_tf.model.text_datasets import (
    Problems,
    column_batches,
    is_batched_source,
    problems_raised,
    text_batches,
)
from simcse_tf.model.text_inputs import columns_of, encoded_texts, string_tensor
from simcse_tf.model.text_model import TextModel


class KerasMethods(TextModel):
    """A text model's `fit`, `evaluate` and `predict`. `SimCSE` has them from here.

    Their arguments have the names, order and defaults of `keras.Model`'s. What makes no
    sense for sentences, such as class weights, is refused.

    Example:

    ```python
    model.fit(anchors, positives, batch_size=64, epochs=3, validation_split=0.1)
    model.predict(["A man is playing a guitar."])  # (1, embedding_dim)
    ```
    """

    embedder: Embedder
    inference: Callable[..., Embed]

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Embeds strings, or what `preprocess` returns."""
        symbolic = keras.backend.is_keras_tensor(inputs)
        if not has_tokens(inputs) and not symbolic:
            inputs = self._features(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training; a loss and metrics of labels are refused."""
        refuse_losses(loss or loss_weights, metrics or weighted_metrics)
        super().compile(optimizer, **kwargs)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:
        """Trains as `keras.Model.fit` does.

        Args:
            x: The sentences: a list, array or tensor of strings; a tuple of two or
                more of those (anchors, positives, hard negatives); a list of tuples,
                one for each example; an array `(n, 2)` or wider; a dictionary or
                pandas DataFrame with the columns `anchor`, `positive`,
                `hard_negative`, ...; a `tf.data.Dataset` of such examples or batches;
                a generator or `keras.utils.PyDataset` of batches.
            y: Optional positives, where `x` is the anchors.
            batch_size: Optional int. Not used for what is batched. Defaults to `32`.
                Examples that do not fill a last batch are left out of the epoch.
            epochs: int. Defaults to `1`.
            verbose: See `keras.Model.fit`.
            callbacks: See `keras.Model.fit`.
            validation_split: float. The share of the examples, the last ones, that is
                kept for validation. Defaults to `0.0`.
            validation_data: Optional data for validation; what `x` takes.
            shuffle: bool. Shuffles what is not a data set, every epoch. Defaults to
                `True`.
            class_weight: Refused: sentences have no classes.
            sample_weight: Refused: the loss of an example depends on the others.
            initial_epoch: See `keras.Model.fit`.
            steps_per_epoch: See `keras.Model.fit`.
            validation_steps: See `keras.Model.fit`.
            validation_batch_size: Optional int. Defaults to `batch_size`.
            validation_freq: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            UserError: If an argument cannot be used. The message says what to pass.

        Example:

        ```python
        model.fit((anchors, positives, hard_negatives), batch_size=64, epochs=3)
        ```
        """
        refuse("class_weight", class_weight)
        refuse("sample_weight", sample_weight)
        check_epochs(x, epochs - initial_epoch, steps_per_epoch)
        batch_size = checked_batch_size(batch_size)
        if validation_split and validation_data is None:
            x, validation_data = split(x, y, validation_split)
            y = None
        problems: Problems = []
        if validation_data is not None:
            size = validation_batch_size or batch_size
            validation_data = self._batches(validation_data, None, size, problems)
        batches = self._batches(x, y, batch_size, problems, shuffle)
        with problems_raised(problems):
            return super().fit(
                batches,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_data=validation_data,
                # Keras would only warn that it cannot shuffle a data set.
                shuffle=False,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_freq=validation_freq,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The loss without dropout; `x` and `y` as for `fit`."""
        refuse("sample_weight", sample_weight)
        problems: Problems = []
        batches = self._batches(x, y, batch_size or BATCH_SIZE, problems)
        with problems_raised(problems):
            return super().evaluate(
                batches,
                verbose=verbose,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Embeds sentences.

        Args:
            x: List, NumPy array, tensor or pandas Series of strings (`str` or UTF-8
                `bytes`), a `tf.data.Dataset` of them, batched or not, or a generator
                or `keras.utils.PyDataset` of batches.
            batch_size: Optional int. Defaults to that of `encode`, and to `32` where
                batches are Keras' own.
            verbose: See `keras.Model.predict`.
            steps: See `keras.Model.predict`.
            callbacks: See `keras.Model.predict`.

        Returns:
            float32 array of shape `(n, embedding_dim)`, rows of unit length.

        Raises:
            UserError: If there are several strings a row, or `batch_size` is not
                positive.
            NotFinite: If an embedding is not finite, which is a `UserError`.

        Example:

        ```python
        model.predict(["A man is playing a guitar."])  # (1, embedding_dim)
        ```
        """
        if batch_size is not None:
            check_limit(batch_size)
        problems: Problems = []
        if is_batched_source(x):
            if not has_tokens(getattr(x, "element_spec", None)):
                x = text_batches(x, batch_size or BATCH_SIZE, problems).map(
                    self.preprocess, tf.data.AUTOTUNE
                )
        else:
            # Before what costs time: strings that are none are a mistake.
            texts = encoded_texts(x)
            if not texts:
                return np.zeros((0, self.embedding_dim), np.float32)
            if steps is None and not callbacks and self._predicts_as_is():
                return self._encoded(texts, batch_size, verbose)
            tokens = self._traced_tokens(tf.constant(texts), self.max_length)
            x = tf.data.Dataset.from_tensor_slices(tokens)
            x = x.batch(batch_size or BATCH_SIZE).map(self.pad, tf.data.AUTOTUNE)
        with problems_raised(problems):
            embeddings = super().predict(
                x, verbose=verbose, steps=steps, callbacks=callbacks
            )
        return _checked(embeddings)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Embeds what `preprocess` returns."""
        # `call` is not used: in it Keras rounds weights to half precision that the
        # encoder reads in float32.
        features, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.embedder.embed(features)

    def _predicts_as_is(self) -> bool:
        """Whether nothing of the user's is to see each batch of Keras' loop."""
        own = type(self).predict_step is KerasMethods.predict_step
        return own and not self.run_eagerly

    def _encoded(
        self, texts: list[bytes], batch_size: int | None, verbose: str | int
    ) -> np.ndarray:
        """`encode`, with Keras' progress bar: Keras' loop takes longer than MiniLM."""
        verbose = 1 if verbose == "auto" else verbose
        bar = keras.utils.Progbar(len(texts), verbose=verbose, unit_name="sentence")
        return encode_array(self, texts, batch_size, bar.add)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on a batch: `x` and `y` as for `fit`, or what `prepare` returns."""
        refuse("class_weight", class_weight)
        refuse("sample_weight", sample_weight)
        return super().train_on_batch(self._batch(x, y), return_dict=return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """A batch's loss without dropout; `x` and `y` as for `train_on_batch`."""
        refuse("sample_weight", sample_weight)
        return super().test_on_batch(self._batch(x, y), return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Embeds one batch of strings, or of what `preprocess` returns."""
        features = x if has_tokens(x) else self._features(x)
        return _checked(super().predict_on_batch(features))

    def _batches(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        problems: Problems,
        shuffle: bool = False,
    ) -> tf.data.Dataset:
        """Batches of what `prepare` returns."""
        if is_prepared(getattr(x, "element_spec", None)):
            return x
        batches = column_batches(x, y, batch_size, shuffle, problems)
        return batches.map(self.prepare, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _batch(self, x: Any, y: Any) -> Any:
        if is_prepared(x):
            return x
        with tf.device("CPU"):
            return self.prepare(*columns_of(x, y))

    def _features(self, texts: Any) -> Any:
        with tf.device("CPU"):
            return self.preprocess(string_tensor(texts))

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        # Nothing is left to build, and Keras would average the replicas' first
        # batches for it, which are of different lengths.
        pass


def _checked(embeddings: np.ndarray) -> np.ndarray:
    check_finite(embeddings, "embeddings")
    return embeddings
