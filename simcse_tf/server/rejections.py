"""The errors that mean "this request is wrong", with the code clients see."""

import tensorflow as tf


def invalid(message: str) -> tf.errors.InvalidArgumentError:
    """The request contradicts itself or the model's signature."""
    return tf.errors.InvalidArgumentError(None, None, message)


def not_found(message: str) -> tf.errors.NotFoundError:
    """The request names a model or version that is not loaded."""
    return tf.errors.NotFoundError(None, None, message)


def failed_precondition(message: str) -> tf.errors.FailedPreconditionError:
    """The request names a signature that the model does not have."""
    return tf.errors.FailedPreconditionError(None, None, message)
