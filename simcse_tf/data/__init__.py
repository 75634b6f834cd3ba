"""Training data as reproducible streams of batches."""
