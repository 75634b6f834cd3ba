"""PyTorch on a GPU: a contestant of `gpu.py`, in the peers' environment.

    gpu_worker.py train MODEL DATA PRECISION BATCH_SIZE STEPS eager|compiled
    gpu_worker.py encode MODEL TEXTS PRECISION BATCH_SIZE OUT.npy
    gpu_worker.py latency MODEL TEXTS PRECISION SIZES

Trains as `training_loop.py` does, with scaled dot product attention, autocast and fused
AdamW, and batches that were tokenized before; encodes with sentence-transformers.
"""

import csv
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from rounds import answer, seconds_since_start

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTH, TEMPERATURE, LEARNING_RATE = 32, 0.05, 5e-5
TOTAL_STEPS, BATCHES, UNTIMED = 100_000, 200, 3

# Products of float32 in TF32, as TensorFlow's are by default.
torch.set_float32_matmul_precision("high")


def train(
    model: str, data: str, precision: str, batch_size: str, steps: str, how: str
) -> None:
    torch.manual_seed(1)
    bert = BertModel.from_pretrained(
        model,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        add_pooling_layer=True,
        attn_implementation="sdpa",
    )
    bert = bert.to(DEVICE).float().train()
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = examples(data)
    random.Random(42).shuffle(rows)
    size = int(batch_size)
    starts = range(0, len(rows) - size + 1, size)[:BATCHES]
    batches = [padded(rows[start : start + size], tokenizer) for start in starts]
    step = training_step(bert, batches, len(rows[0]), precision, how == "compiled")

    def work(count: int) -> dict:
        losses = [step() for _ in range(UNTIMED)]
        finish()
        begun = time.perf_counter()
        losses += [step() for _ in range(count)]
        finish()
        seconds = time.perf_counter() - begun
        ms = 1e3 * seconds / count
        return {"rate": count * size / seconds, "ms": ms, "loss": float(losses[-1])}

    float(step())
    first = seconds_since_start()
    work(20)
    answer(lambda: {**work(int(steps)), "first_step_s": first})


def examples(path: str) -> list[list[str]]:
    if path.endswith(".csv"):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
    # Unsupervised: a sentence is its own positive.
    return [[line] * 2 for line in lines(path)]


def lines(path: str) -> list[str]:
    text = Path(path).read_text("utf-8")
    return [line for line in text.split("\n") if line.strip()]


def padded(rows: list[list[str]], tokenizer: AutoTokenizer) -> dict:
    """Tokens of a batch, column after column."""
    texts = [row[column] for column in range(len(rows[0])) for row in rows]
    batch = tokenizer(
        texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt"
    )
    # From pinned memory a copy does not wait.
    pin = torch.Tensor.pin_memory if DEVICE == "cuda" else torch.Tensor.contiguous
    return {name: pin(tensor) for name, tensor in batch.items()}


def training_step(
    bert: BertModel, batches: list[dict], columns: int, precision: str, compiled: bool
) -> Callable[[], torch.Tensor]:
    optimizer = torch.optim.AdamW(
        bert.parameters(), LEARNING_RATE, weight_decay=0.0, fused=DEVICE == "cuda"
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - step / TOTAL_STEPS
    )
    half = torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16")
    forward = torch.compile(bert, dynamic=True) if compiled else bert
    done = 0

    def step() -> torch.Tensor:
        nonlocal done
        batch = {
            name: tensor.to(DEVICE, non_blocking=True)
            for name, tensor in batches[done % len(batches)].items()
        }
        done += 1
        with half:
            embeddings = forward(**batch).pooler_output
        loss = loss_of(embeddings.float(), columns)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bert.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss.detach()

    return step


def loss_of(embeddings: torch.Tensor, columns: int) -> torch.Tensor:
    anchors, *candidates = embeddings.chunk(columns)
    similarities = torch.nn.functional.cosine_similarity(
        anchors[:, None], torch.cat(candidates)[None], dim=-1
    )
    labels = torch.arange(len(anchors), device=embeddings.device)
    return torch.nn.functional.cross_entropy(similarities / TEMPERATURE, labels)


def finish() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def load(model: str, precision: str) -> Callable[[list[str], int], np.ndarray]:
    from sentence_transformers import SentenceTransformer

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    loaded = SentenceTransformer(model, device=DEVICE).to(dtype)
    return lambda texts, size: loaded.encode(
        texts, batch_size=size, normalize_embeddings=True
    )


def encode(model: str, source: str, precision: str, size: str, out: str) -> None:
    embed, texts = load(model, precision), lines(source)

    def work() -> dict:
        begun = time.perf_counter()
        rows = embed(texts, int(size))
        seconds = time.perf_counter() - begun
        np.save(out, rows.astype(np.float32))
        return {"rate": len(texts) / seconds}

    work()
    answer(work)


def latency(model: str, source: str, precision: str, sizes: str) -> None:
    embed, texts = load(model, precision), lines(source)

    def milliseconds(size: int) -> float:
        times = []
        for start in range(0, 20 * size, size):
            part = [texts[(start + each) % len(texts)] for each in range(size)]
            begun = time.perf_counter()
            embed(part, size)
            times.append(1e3 * (time.perf_counter() - begun))
        return statistics.median(times)

    def work() -> dict:
        return {f"ms_{size}": milliseconds(int(size)) for size in sizes.split(",")}

    work()
    answer(work)


if __name__ == "__main__":
    {"train": train, "encode": encode, "latency": latency}[sys.argv[1]](*sys.argv[2:])
