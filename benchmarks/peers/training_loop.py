"""SimCSE's training step in PyTorch, a contestant of `training.py`.

As the paper trains: all columns of a batch are padded to its longest sentence and go
through BERT in one pass; [CLS] through a dense layer with tanh; cosines divided by the
temperature; cross entropy over the batch; AdamW without decay; gradients clipped to 1;
a learning rate that falls linearly.
"""

import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from rounds import answer

LENGTH, TEMPERATURE, LEARNING_RATE = 32, 0.05, 5e-5
TOTAL_STEPS = 100_000


class Encoder(torch.nn.Module):
    def __init__(self, weights: str):
        super().__init__()
        self.bert = BertModel.from_pretrained(
            weights,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            add_pooling_layer=True,
        )

    def forward(self, tokens: dict) -> torch.Tensor:
        return self.bert(**tokens).pooler_output


def loss_of(embeddings: torch.Tensor, columns: int) -> torch.Tensor:
    """`embeddings`: `(columns * n, dim)`, column after column."""
    anchors, *candidates = embeddings.float().chunk(columns)
    similarities = torch.nn.functional.cosine_similarity(
        anchors[:, None], torch.cat(candidates)[None], dim=-1
    )
    labels = torch.arange(len(anchors))
    return torch.nn.functional.cross_entropy(similarities / TEMPERATURE, labels)


def main() -> None:
    weights, source, precision, *numbers = sys.argv[1:]
    batch_size, steps, warm_up = map(int, numbers)
    model = Encoder(weights).train()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    rows = [line.split("\t") for line in Path(source).read_text("utf-8").split("\n")]
    # Unsupervised: a sentence is its own positive.
    rows = [row * 2 if len(row) == 1 else row for row in rows]
    columns = len(rows[0])
    # Before training, as in the paper's code.
    tokens = [
        tokenizer(row, truncation=True, max_length=LENGTH)["input_ids"] for row in rows
    ]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - step / TOTAL_STEPS
    )
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    done = 0

    def step() -> float:
        nonlocal done
        part = tokens[done * batch_size : (done + 1) * batch_size]
        done += 1
        by_column = [row[column] for column in range(columns) for row in part]
        batch = tokenizer.pad({"input_ids": by_column}, return_tensors="pt")
        with half:
            embeddings = model(batch)
        loss = loss_of(embeddings, columns)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss.item()

    def work(count: int) -> dict:
        begun = time.perf_counter()
        losses = [step() for _ in range(count)]
        seconds = time.perf_counter() - begun
        return {"rate": count * batch_size / seconds, "loss": sum(losses) / count}

    work(warm_up)
    answer(lambda: work(steps))


if __name__ == "__main__":
    main()
