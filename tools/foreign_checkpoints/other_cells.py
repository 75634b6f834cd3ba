"""Models of other kinds, small and random, which have to be refused or right."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.models import (
    BoW,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
)
from sentence_transformers.sparse_encoder.models import MLMTransformer, SpladePooling

from foreign_checkpoints.cell import Cell, edited, modules
from foreign_checkpoints.edits import json_by, json_with
from foreign_checkpoints.models import fill, tokenizer_of, write_transformer

_SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 66,
}
# What a family's configuration wants besides, and its tokenizer.
MODEL_TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "albert": ({"embedding_size": 8}, "bert"),
    "camembert": ({}, "xlm-roberta"),
    "convbert": ({"embedding_size": 16}, "bert"),
    "deberta": ({}, "bert"),
    "deberta-v2": ({"relative_attention": True}, "bert"),
    "electra": ({"embedding_size": 8}, "bert"),
    "ernie": ({}, "bert"),
    "eurobert": ({}, "roberta"),
    "gpt2": ({"n_embd": 16, "n_layer": 1, "n_head": 2}, "roberta"),
    "longformer": ({"attention_window": 4}, "roberta"),
    "megatron-bert": ({}, "bert"),
    "mobilebert": ({"embedding_size": 8, "intra_bottleneck_size": 8}, "bert"),
    "modernbert": ({"global_attn_every_n_layers": 1}, "bert"),
    "mpnet": ({"pad_token_id": 1}, "bert"),
    "qwen3": ({"head_dim": 8, "num_key_value_heads": 2}, "roberta"),
    "rembert": ({"input_embedding_size": 8, "output_embedding_size": 8}, "bert"),
    "roberta-prelayernorm": ({}, "roberta"),
    "roformer": ({}, "bert"),
    "t5": (
        {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        "xlm-roberta",
    ),
    "xlm-roberta-xl": ({}, "xlm-roberta"),
}


def other_cells() -> Iterator[Cell]:
    for model_type in MODEL_TYPES:
        yield Cell(f"model type/{model_type}", _OfType(model_type), loads=False)
    yield Cell("kind/CrossEncoder", _cross_encoder, loads=False)
    yield Cell("kind/SparseEncoder", _sparse_encoder, loads=False)
    yield Cell("kind/StaticEmbedding", _static_embedding)
    yield Cell("kind/BoW", _bag_of_words)
    yield Cell("kind/Router", _router)
    yield Cell(
        "kind/pooler output by modality_config",
        edited(
            modules("bert", "mean"),
            json_by("modules.json", lambda m: m.pop()),
            _PoolerOutput(),
        ),
        "bert/mean",
    )
    yield Cell(
        "kind/first layer by modality_config",
        edited(
            modules("bert", "mean"),
            json_by("sentence_bert_config.json", _first_layer),
        ),
        "bert/mean",
    )
    yield Cell(
        "kind/processing_kwargs",
        edited(
            modules("bert", "mean"),
            json_with(
                "sentence_bert_config.json",
                processing_kwargs={"text": {"max_length": 8, "truncation": True}},
            ),
        ),
        "bert/mean",
    )
    yield Cell(
        "kind/unpad_inputs",
        edited(
            modules("bert", "mean"),
            json_with("sentence_bert_config.json", unpad_inputs=False),
        ),
        like="bert/mean",
    )
    yield Cell(
        "kind/0_Transformer",
        edited(modules("bert", "mean"), _in_a_folder),
        like="bert/mean",
    )
    yield Cell(
        "kind/custom code",
        edited(
            modules("bert", "mean"),
            json_with(
                "config.json",
                model_type="nomic_bert",
                auto_map={"AutoModel": "code.Model"},
            ),
        ),
        loads=False,
    )


class _OfType:
    """Writes a sentence-transformers directory with a model of some type."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    def __call__(self, directory: Path) -> None:
        changes, family = MODEL_TYPES[self.model_type]
        tokenizer = tokenizer_of(family)
        settings = {
            **_SMALL,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": 0,
            "eos_token_id": 2,
            **changes,
        }
        config = transformers.AutoConfig.for_model(self.model_type, **settings)
        model = transformers.AutoModel.from_config(config)
        fill(model)
        with tempfile.TemporaryDirectory() as source:
            model.save_pretrained(source)
            tokenizer.save_pretrained(source)
            first = Transformer(source)
            _save([first, Pooling(first.get_embedding_dimension(), "mean")], directory)


def _save(parts: list[Any], directory: Path) -> None:
    model = SentenceTransformer(modules=parts, device="cpu")
    model.save(str(directory), create_model_card=False)


def _cross_encoder(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as source:
        kind = transformers.BertForSequenceClassification
        write_transformer(Path(source), "bert", {"num_labels": 1}, model_class=kind)
        CrossEncoder(source, device="cpu").save_pretrained(str(directory))
    (directory / "README.md").unlink(missing_ok=True)


def _sparse_encoder(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as source:
        write_transformer(
            Path(source), "bert", model_class=transformers.BertForMaskedLM
        )
        parts = [MLMTransformer(source), SpladePooling()]
        model = SparseEncoder(modules=parts, device="cpu")
        model.save(str(directory), create_model_card=False)


def _static_embedding(directory: Path) -> None:
    module = StaticEmbedding(tokenizer_of("bert").backend_tokenizer, embedding_dim=16)
    fill(module)
    _save([module], directory)


def _bag_of_words(directory: Path) -> None:
    _save([BoW(["man", "music", "guitar"])], directory)


def _router(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as source:
        write_transformer(Path(source))
        routes = {
            route: [Transformer(source), Pooling(32, mode)]
            for route, mode in (("query", "cls"), ("document", "mean"))
        }
        _save([Router(routes, default_route="query")], directory)


class _PoolerOutput:
    """The pooler's output in place of a pooling."""

    def __call__(self, directory: Path) -> None:
        text = {"method": "forward", "method_output_name": "pooler_output"}
        json_with(
            "sentence_bert_config.json",
            modality_config={"text": text},
            module_output_name="sentence_embedding",
        )(directory)


def _first_layer(settings: Any) -> None:
    settings["modality_config"]["text"]["method_output_name"] = ["hidden_states", 1]


def _in_a_folder(directory: Path) -> None:
    """The transformer in a folder of its own, as the first versions had it."""
    folder = directory / "0_Transformer"
    folder.mkdir()
    keep = {"modules.json", "config_sentence_transformers.json"}
    for path in [p for p in directory.iterdir() if p.is_file() and p.name not in keep]:
        path.rename(folder / path.name)
    json_by("modules.json", lambda m: m[0].update(path="0_Transformer"))(directory)
