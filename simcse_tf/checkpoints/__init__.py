"""From a MODEL argument to a backbone, a tokenizer and settings."""
