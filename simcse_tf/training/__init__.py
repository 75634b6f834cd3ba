"""A training run: its config, directory, callbacks and checkpoints."""
