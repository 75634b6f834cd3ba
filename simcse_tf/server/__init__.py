"""A local server with TF Serving's interfaces, gRPC and REST, for where none is."""
