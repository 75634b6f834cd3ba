"""`SimCSE`, the Keras model."""
