"""A local server with TF Serving's gRPC interface, for where none is installed."""
