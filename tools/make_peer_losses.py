"""Makes the losses that `tests/objectives/test_peer_losses.py` compares ours with.

They are what sentence-transformers 6 computes from embeddings of a seed, and the
derivative of each along one direction. Run it where that is installed:

    PEERS_6/bin/python tools/make_peer_losses.py tests/support/peer_losses.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from sentence_transformers.sentence_transformer import losses

SEED, COLUMNS, ROWS, DIM, GUIDE_DIM = 20, 5, 12, 48, 10
DIMS, WEIGHTS, MARGIN = [48, 24, 12, 5], [1.0, 0.5, 2.0, 0.25], 0.1


class Column(torch.nn.Module):
    """A model of which one of the features is the embedding."""

    max_seq_length = 32

    def __init__(self, name: str, dim: int, tokenizer: Any):
        super().__init__()
        self.name, self.dim, self.tokenizer = name, dim, tokenizer

    def __getitem__(self, index: int) -> Any:
        return self

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features[self.name]}

    def get_embedding_dimension(self) -> int:
        return self.dim


def main(out: str) -> None:
    """Writes the losses."""
    rng = np.random.default_rng(SEED)
    # Rows have a part in common, or every loss would be about the same.
    common = rng.normal(size=(1, ROWS, DIM))
    embeddings = rng.normal(size=(COLUMNS, ROWS, DIM)) + common
    direction = rng.normal(size=embeddings.shape)
    guide = rng.normal(size=(COLUMNS, ROWS, GUIDE_DIM))
    # Some are equal.
    scores = torch.tensor(rng.integers(0, 6, ROWS).astype(float))

    def found(loss: Any, columns: int, labels: Any = None) -> dict[str, Any]:
        given = torch.tensor(embeddings, requires_grad=True)
        features = [
            {"model": rows, "guide": torch.tensor(guided)}
            for rows, guided in zip(given[:columns], guide, strict=False)
        ]
        value = loss(features, labels)
        value.backward()
        derivative = (given.grad * torch.tensor(direction)).sum()
        return {"loss": value.item(), "derivative": derivative.item()}

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    model = Column("model", DIM, tokenizer)
    guiding = Column("guide", GUIDE_DIM, tokenizer)
    ranking = losses.MultipleNegativesRankingLoss(model, scale=20.0)
    cached = losses.CachedMultipleNegativesRankingLoss(
        model, scale=20.0, mini_batch_size=5
    )
    gist = losses.GISTEmbedLoss(
        model,
        guiding,
        temperature=0.05,
        margin=MARGIN,
        contrast_anchors=False,
        contrast_positives=False,
    )
    scored = {
        "cosent": losses.CoSENTLoss(model, scale=20.0),
        "angle": losses.AnglELoss(model, scale=20.0),
    }
    nested = losses.MatryoshkaLoss(model, ranking, DIMS, WEIGHTS)
    results = {
        **{f"ranking {n}": found(ranking, n) for n in range(2, COLUMNS + 1)},
        **{f"cached ranking {n}": found(cached, n) for n in range(2, COLUMNS + 1)},
        **{f"guided {n}": found(gist, n) for n in (2, 3)},
        **{f"matryoshka {n}": found(nested, n) for n in (2, 5)},
        **{f"{name} 2": found(loss, 2, scores) for name, loss in scored.items()},
    }
    Path(out).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
