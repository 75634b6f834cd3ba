"""Search by cosine similarity."""
