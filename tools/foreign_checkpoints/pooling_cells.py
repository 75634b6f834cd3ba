"""Poolings, prompts and lengths."""

from collections.abc import Iterator
from typing import Any

from foreign_checkpoints.cell import Cell, edited, modules
from foreign_checkpoints.edits import as_before_5_4, json_with
from foreign_checkpoints.models import FAMILIES, tokenizer_of

POOLINGS = {
    "cls": "cls",
    "max": "max",
    "weightedmean": "weightedmean",
    "lasttoken": "lasttoken",
    "cls+max": ("cls", "max"),
    "mean+mean_sqrt_len": ("mean", "mean_sqrt_len_tokens"),
}
# In the order in which sentence-transformers once concatenated them, and in another.
ALL_SIX = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def pooling_cells() -> Iterator[Cell]:
    for family in FAMILIES:
        mean = f"{family}/mean"
        yield Cell(mean, modules(family, "mean"), f"{family}/cls", versions=(5, 6))
        for name, mode in POOLINGS.items():
            both = name in ("cls", "cls+max", "lasttoken", "max")
            versions = (5, 6) if both else (6,)
            unlike = {"mean+mean_sqrt_len": "", "cls+max": ""}.get(name, mean)
            yield Cell(
                f"{family}/{name}", modules(family, mode), unlike, versions=versions
            )
        # The same direction as the mean.
        yield Cell(
            f"{family}/mean_sqrt_len",
            modules(family, "mean_sqrt_len_tokens"),
            like=mean,
        )
    yield Cell("bert/all six", modules("bert", ALL_SIX))
    yield Cell("bert/all six, reversed", modules("bert", ALL_SIX[::-1]), "bert/all six")
    yield Cell(
        "roberta/weightedmean+lasttoken",
        modules("roberta", ("weightedmean", "lasttoken")),
        versions=(5,),
    )
    yield from _old_poolings()


def _old_poolings() -> Iterator[Cell]:
    """The pooling's file as versions before 5.4 wrote it."""

    def old(modes: tuple[str, ...], *args: Any, **sbert: Any) -> Any:
        return edited(modules("bert", "mean"), as_before_5_4(modes, *args, **sbert))

    first_keys = ("cls", "mean", "max", "mean_sqrt_len_tokens")
    for name in ("cls", "max", "lasttoken", "mean"):
        yield Cell(f"old/{name}", old((name,)), like=f"bert/{name}", versions=(5, 6))
    yield Cell("old/first keys", old(("max",), first_keys), like="bert/max")
    yield Cell("old/max+cls", old(("max", "cls")), like="bert/cls+max")
    yield Cell("old/none is mean", old(()), like="bert/mean")
    yield Cell(
        "old/max_seq_length",
        old(("mean",), max_seq_length=12),
        "bert/mean",
        like="bert/model_max_length 12",
        versions=(5, 6),
    )
    yield Cell(
        "old/no max_seq_length", old(("mean",), max_seq_length=None), like="bert/mean"
    )
    yield Cell(
        "old/do_lower_case",
        edited(
            modules("bert", "mean", tokenizer=_cased),
            as_before_5_4(("mean",), do_lower_case=True),
        ),
        "bert/cased",
    )


def _cased() -> Any:
    return tokenizer_of("bert", do_lower_case=False)


def prompt_cells() -> Iterator[Cell]:
    prompts = {"query": "query: ", "passage": "passage: "}

    def cell(
        name: str, keywords: dict[str, Any], unlike: str = "bert/mean", **settings: Any
    ) -> Cell:
        pooling = {k: settings.pop(k) for k in ("include_prompt",) if k in settings}
        args = settings.pop("args", ("bert", "mean"))
        return Cell(
            name, modules(*args, keywords=keywords, **pooling), unlike, **settings
        )

    query = {"prompts": prompts, "default_prompt_name": "query"}
    yield cell("bert/prompt", query, versions=(5, 6))
    yield cell(
        "bert/prompt passage",
        {**query, "default_prompt_name": "passage"},
        "bert/prompt",
    )
    yield cell(
        "bert/prompts, no default",
        {"prompts": prompts},
        "",
        like="bert/mean",
        versions=(5, 6),
    )
    yield cell(
        "bert/prompt without a space",
        {"prompts": {"p": "the"}, "default_prompt_name": "p"},
        "bert/prompt",
    )
    yield cell(
        "bert/empty prompt",
        {"prompts": {"p": ""}, "default_prompt_name": "p"},
        "",
        like="bert/mean",
    )
    yield cell(
        "bert/prompt with a special token",
        {"prompts": {"p": "[MASK] "}, "default_prompt_name": "p"},
    )
    yield cell(
        "bert/prompt excluded",
        query,
        "bert/prompt",
        include_prompt=False,
        versions=(5, 6),
    )
    yield cell(
        "bert/no prompt to exclude", {}, "", include_prompt=False, like="bert/mean"
    )
    for family in ("roberta", "xlm-roberta", "distilbert"):
        yield cell(f"{family}/prompt", query, f"{family}/mean", args=(family, "mean"))
    yield cell("bert/truncate_dim", {"truncate_dim": 8}, "")
    yield cell("bert/dot", {"similarity_fn_name": "dot"}, "", like="bert/mean")


def length_cells() -> Iterator[Cell]:
    def length(value: int, family: str = "bert") -> Any:
        return lambda: tokenizer_of(family, model_max_length=value)

    for family in FAMILIES:
        yield Cell(
            f"{family}/model_max_length 12",
            modules(family, "mean", tokenizer=length(12, family)),
            f"{family}/mean",
            versions=(5, 6) if family == "bert" else (6,),
        )
    yield Cell(
        "bert/no model_max_length",
        modules("bert", "mean", tokenizer=length(10**30)),
        like="bert/mean",
    )
    yield Cell(
        "bert/model_max_length past the positions",
        modules("bert", "mean", tokenizer=length(512)),
        like="bert/mean",
    )

    def old(tokenizer: int, **sbert: Any) -> Any:
        write = modules("bert", "mean", tokenizer=length(tokenizer))
        return edited(write, as_before_5_4(("mean",), **sbert))

    yield Cell(
        "old/max_seq_length before model_max_length",
        old(32, max_seq_length=12),
        like="bert/model_max_length 12",
        unlike="bert/mean",
    )
    yield Cell(
        "old/max_seq_length above model_max_length",
        old(12, max_seq_length=64),
        unlike="bert/model_max_length 12",
    )
    yield Cell(
        "bert/truncation_side left",
        modules(
            "bert",
            "mean",
            tokenizer=lambda: tokenizer_of("bert", truncation_side="left"),
        ),
        "bert/mean",
        versions=(5, 6),
    )
    # BERT counts positions from the padding on, so what it embeds depends on the batch;
    # RoBERTa counts them from the first token on.
    for family, like in (("bert", ""), ("roberta", "roberta/weightedmean")):
        yield Cell(
            f"{family}/padding_side left",
            modules(
                family,
                "weightedmean",
                tokenizer=lambda f=family: tokenizer_of(f, padding_side="left"),
            ),
            unlike="" if like else "bert/weightedmean",
            like=like,
        )
    yield Cell(
        "bert/tokenizer.json truncates",
        edited(
            modules("bert", "mean"),
            json_with(
                "tokenizer.json",
                truncation={
                    "direction": "Right",
                    "max_length": 8,
                    "strategy": "LongestFirst",
                    "stride": 0,
                },
                padding={
                    "strategy": {"Fixed": 16},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "[PAD]",
                },
            ),
        ),
        like="bert/mean",
    )
