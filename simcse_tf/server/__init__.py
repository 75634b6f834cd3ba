"""A server in Python with TF Serving's interfaces, where TF Serving is missing."""
