"""The SavedModel that TF Serving runs."""
