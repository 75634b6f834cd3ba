"""The OpenAI API in front of a TF Serving, or of the Python server."""
