"""The checkpoints that `make_foreign_checkpoints` writes."""
