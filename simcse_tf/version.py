"""The package's version, on its own so that setup.py reads it without an import."""

__version__ = "0.1.0"
