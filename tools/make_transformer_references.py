"""Makes what the encoders are compared with: hidden states and losses of transformers.

Run it with the Python of an environment that has PyTorch and transformers:

    python tools/make_transformer_references.py tests/support/transformers.safetensors

For each architecture the file holds a small model's random weights, a batch whose
sentences have all lengths, the hidden states of its layers, and the losses of twenty
supervised steps as the paper's code takes them, without dropout; and the head of its
masked language model, and what that predicts for two of the sentences.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

WIDTH, LENGTH, VOCABULARY = 16, 12, 60
# No sentence holds an id below it: padding is among them.
SPECIAL_TOKENS = 5
STEPS, BATCH_SIZE, COLUMNS = 20, 6, 3
LEARNING_RATE, TEMPERATURE = 1e-3, 0.05

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * WIDTH,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
}
# RoBERTa counts positions from the padding's id plus one.
ROBERTA: dict[str, Any] = {"max_position_embeddings": LENGTH + 2, "pad_token_id": 1}
ROBERTA |= {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
DISTILBERT = {
    "vocab_size": VOCABULARY,
    "dim": WIDTH,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 2 * WIDTH,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.2,
    "max_position_embeddings": LENGTH,
}


def models() -> Iterator[tuple[str, Any, int]]:
    """Name, masked language model and padding id of each architecture."""
    bert = transformers.BertConfig(**SIZES, max_position_embeddings=LENGTH)
    yield "bert", transformers.BertForMaskedLM(bert), 0
    roberta = transformers.RobertaConfig(**SIZES, **ROBERTA)
    yield "roberta", transformers.RobertaForMaskedLM(roberta), 1
    xlmr = transformers.XLMRobertaConfig(**SIZES, **ROBERTA, hidden_act="gelu_new")
    yield "xlm_roberta", transformers.XLMRobertaForMaskedLM(xlmr), 1
    distilbert = transformers.DistilBertConfig(**DISTILBERT, activation="relu")
    yield "distilbert", transformers.DistilBertForMaskedLM(distilbert), 0


def randomize(model: torch.nn.Module) -> None:
    """Gives biases and layer normalizations random values too."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            center = float("norm" in name.lower() and name.endswith("weight"))
            torch.nn.init.normal_(parameter, center, 0.1)


def batches(rng: np.random.Generator, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and masks, `(steps, columns, n, length)`; lengths are 1 to the longest."""
    shape = (STEPS, COLUMNS, BATCH_SIZE, LENGTH)
    lengths = rng.integers(1, LENGTH + 1, size=shape[:3])
    lengths[:, :, 0], lengths[:, :, 1] = 1, LENGTH
    mask = np.arange(LENGTH) < lengths[..., None]
    token_ids = rng.integers(SPECIAL_TOKENS, VOCABULARY, size=shape)
    return np.where(mask, token_ids, pad), mask.astype(np.int64)


def losses(
    model: Any, head: torch.nn.Linear, token_ids: np.ndarray, masks: np.ndarray
) -> list[float]:
    """Supervised SimCSE: all columns in one pass, [CLS] through the head."""
    both = [*model.parameters(), *head.parameters()]
    parameters = [each for each in both if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - step / STEPS
    )
    found = []
    for ids, mask in zip(torch.tensor(token_ids), torch.tensor(masks), strict=True):
        states = model(ids.flatten(0, 1), mask.flatten(0, 1)).last_hidden_state
        embeddings = torch.tanh(head(states[:, 0]))
        anchors, positives, negatives = embeddings.chunk(COLUMNS)
        similarities = torch.nn.functional.cosine_similarity(
            anchors[:, None], torch.cat([positives, negatives])[None], dim=-1
        )
        loss = torch.nn.functional.cross_entropy(
            similarities / TEMPERATURE, torch.arange(BATCH_SIZE)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        found.append(loss.item())
    return found


def reference(masked_lm: Any, pad: int) -> dict[str, np.ndarray]:
    """What the file holds of one architecture."""
    randomize(masked_lm)
    masked_lm.train()
    model, prefix = masked_lm.base_model, f"{masked_lm.base_model_prefix}."
    head = torch.nn.Linear(WIDTH, WIDTH)
    weights = {f"model.{name}": p for name, p in model.named_parameters()}
    weights |= {f"head.{name}": p for name, p in head.named_parameters()}
    # The output's matrix is that of the words.
    weights |= {
        f"masked_lm.{name}": parameter
        for name, parameter in masked_lm.named_parameters()
        if not name.startswith(prefix) and parameter.shape != (VOCABULARY, WIDTH)
    }
    weights = {name: p.detach().numpy().copy() for name, p in weights.items()}
    token_ids, masks = batches(np.random.default_rng(1), pad)
    with torch.no_grad():
        ids, mask = torch.tensor(token_ids[0, 0]), torch.tensor(masks[0, 0])
        output = masked_lm(ids, attention_mask=mask, output_hidden_states=True)
    # KerasHub has no table of segments for RoBERTa. Its single row is a part of every
    # position's, and so is not trained beside them.
    types = getattr(model.embeddings, "token_type_embeddings", None)
    if types is not None and len(types.weight) == 1:
        types.weight.requires_grad_(False)
    return weights | {
        "token_ids": token_ids.astype(np.int8),
        "hidden_states": torch.stack(output.hidden_states[1:]).numpy(),
        "logits": output.logits[:2].numpy(),
        "losses": np.array(losses(model, head, token_ids, masks), np.float32),
    }


def main() -> None:
    (path,) = sys.argv[1:]
    torch.manual_seed(1)
    arrays = {
        f"{name}/{part}": array
        for name, model, pad in models()
        for part, array in reference(model, pad).items()
    }
    save_file({name: array.copy() for name, array in arrays.items()}, path)
    for name, array in arrays.items():
        if name.endswith("losses"):
            print(name, array[[0, -1]])


if __name__ == "__main__":
    main()
