"""Where the API is found."""

EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
HEALTH = "/health"
INFO = "/info"

# Those that TF Serving has not.
ALL = frozenset({EMBEDDINGS, MODELS, HEALTH, INFO})
