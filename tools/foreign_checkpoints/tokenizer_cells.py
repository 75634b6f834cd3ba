"""What tokenizers can be told, in both of their files."""

from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import AddedToken

from foreign_checkpoints.cell import Cell, Write, edited, modules
from foreign_checkpoints.edits import json_by, json_with, without
from foreign_checkpoints.models import tokenizer_of

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"

WORDPIECE_SWITCHES: dict[str, dict[str, Any]] = {
    "cased": {"do_lower_case": False},
    "strip_accents false": {"strip_accents": False},
    "cased, strip_accents": {"do_lower_case": False, "strip_accents": True},
    "tokenize_chinese_chars false": {"tokenize_chinese_chars": False},
}

ADDED: dict[str, list[Any]] = {
    "added token": ["<new>", "wow!token"],
    "added lstrip": [AddedToken("<new>", lstrip=True), AddedToken("is", lstrip=True)],
    "added rstrip": [AddedToken("is", rstrip=True)],
    "added single_word": [
        AddedToken("wow!token", single_word=True),
        AddedToken("ish", single_word=True),
    ],
    "added normalized": [AddedToken("WOW!TOKEN", normalized=True)],
    "added not normalized": [AddedToken("WOW!TOKEN", normalized=False)],
    "added special": [AddedToken("<new>", special=True)],
    "added prefix of another": [AddedToken("new"), AddedToken("newish")],
}


def _added(family: str, tokens: list[Any], **settings: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = tokenizer_of(family, **settings)
        tokenizer.add_tokens(tokens)
        return tokenizer

    return make


def tokenizer_cells() -> Iterator[Cell]:
    yield from _wordpiece_cells()
    yield from _file_cells()
    yield from _other_families()
    yield from _unusual()


def _wordpiece_cells() -> Iterator[Cell]:
    for name, settings in WORDPIECE_SWITCHES.items():
        write = modules(
            "bert", "mean", tokenizer=lambda s=settings: tokenizer_of("bert", **s)
        )
        unlike = "bert/cased" if "cased," in name else "bert/mean"
        yield Cell(f"bert/{name}", write, unlike, versions=(5, 6))
        # What transformers 4 wrote before it wrote tokenizer.json, and what others do.
        yield Cell(
            f"bert/{name}, vocab.txt alone",
            edited(write, without(TOKENIZER)),
            like=f"bert/{name}",
            versions=(5,),
        )
        # The normalizer of tokenizer.json alone says how it splits.
        drop = {
            "do_lower_case": None,
            "strip_accents": None,
            "tokenize_chinese_chars": None,
        }
        yield Cell(
            f"bert/{name}, by tokenizer.json alone",
            edited(write, json_with(CONFIG, **drop), without("vocab.txt")),
            versions=(5, 6),
        )
        # The two files contradict each other.
        yield Cell(
            f"bert/{name}, by tokenizer_config.json alone",
            edited(modules("bert", "mean"), json_with(CONFIG, **settings)),
            versions=(5, 6),
        )
    yield Cell(
        "distilbert/cased",
        modules(
            "distilbert",
            "mean",
            tokenizer=lambda: tokenizer_of("distilbert", do_lower_case=False),
        ),
        "distilbert/mean",
    )
    for name, tokens in ADDED.items():
        both = name in ("added token", "added lstrip")
        yield Cell(
            f"bert/{name}",
            modules("bert", "mean", tokenizer=_added("bert", tokens)),
            "bert/mean" if name != "added not normalized" else "bert/added normalized",
            versions=(5, 6) if both else (6,),
        )
    yield Cell(
        "bert/special tokens of other names",
        modules("bert", "mean", tokenizer=_other_names),
        "bert/mean",
    )


def _other_names() -> Any:
    """As MPNet's and others' tokenizers: WordPiece, with other tokens around."""
    tokenizer = tokenizer_of("bert", cls_token="man", sep_token="woman")
    return tokenizer


def _file_cells() -> Iterator[Cell]:
    """The same tokenizer from fewer files."""
    mean = modules("bert", "mean")
    for name, files in {
        "vocab.txt alone": (TOKENIZER, CONFIG, "special_tokens_map.json"),
        "tokenizer.json alone": ("vocab.txt", "special_tokens_map.json"),
    }.items():
        yield Cell(
            f"bert/{name}",
            edited(mean, without(*files)),
            like="bert/mean",
            versions=(5,),
        )
    roberta = modules("roberta", "mean")
    for name, files in {
        "vocab.json and merges.txt": (TOKENIZER,),
        "tokenizer.json alone": ("vocab.json", "merges.txt", "special_tokens_map.json"),
    }.items():
        yield Cell(
            f"roberta/{name}",
            edited(roberta, without(*files)),
            like="roberta/mean",
            versions=(5,),
        )
    xlm = modules("xlm-roberta", "mean")
    for name, files in {
        "sentencepiece.bpe.model alone": (TOKENIZER,),
        "tokenizer.json alone": ("sentencepiece.bpe.model", "special_tokens_map.json"),
    }.items():
        yield Cell(
            f"xlm-roberta/{name}",
            edited(xlm, without(*files)),
            like="xlm-roberta/mean",
            versions=(5,),
        )
    yield Cell(
        "bert/no tokenizer",
        edited(mean, without(TOKENIZER, CONFIG, "vocab.txt")),
        loads=False,
    )
    yield Cell(
        "bert/tokenizer_class of another kind",
        edited(mean, json_with(CONFIG, tokenizer_class="PreTrainedTokenizerFast")),
        like="bert/mean",
        versions=(5,),
    )


def _other_families() -> Iterator[Cell]:
    def cell(family: str, name: str, make: Callable[[], Any], **settings: Any) -> Cell:
        settings.setdefault("unlike", f"{family}/mean")
        return Cell(
            f"{family}/{name}", modules(family, "mean", tokenizer=make), **settings
        )

    yield cell(
        "roberta",
        "add_prefix_space",
        lambda: tokenizer_of("roberta", add_prefix_space=True),
        versions=(5, 6),
    )
    yield cell(
        "roberta",
        "trim_offsets false",
        lambda: tokenizer_of("roberta", trim_offsets=False),
        unlike="",
        like="roberta/mean",
    )
    for family in ("roberta", "xlm-roberta"):
        for name in (
            "added token",
            "added lstrip",
            "added single_word",
            "added rstrip",
        ):
            yield cell(
                family,
                name,
                _added(family, ADDED[name]),
                versions=(5, 6) if name == "added token" else (6,),
            )


def _unusual() -> Iterator[Cell]:
    """Tokenizers that some other model might have."""

    def cell(
        name: str, change: Callable[[Any], None], family: str = "bert", **settings: Any
    ) -> Cell:
        write: Write = modules(family, "mean")
        # As a plain tokenizer.json: its own class would put its own settings in.
        own = json_with(CONFIG, tokenizer_class="PreTrainedTokenizerFast")
        settings.setdefault("unlike", f"{family}/mean")
        return Cell(
            f"{family}/{name}",
            edited(write, json_by(TOKENIZER, change), own),
            versions=(5,),
            **settings,
        )

    def normalizer(value: Any) -> Callable[[Any], None]:
        return lambda t: t.update(
            normalizer={"type": "Sequence", "normalizers": [value, t["normalizer"]]}
        )

    yield cell("normalizer NFKC", normalizer({"type": "NFKC"}))
    yield cell(
        "normalizer Replace",
        normalizer({"type": "Replace", "pattern": {"String": "a"}, "content": "o"}),
    )
    yield cell(
        "clean_text false",
        lambda t: t["normalizer"].update(clean_text=False),
        unlike="",
    )
    yield cell("no normalizer", lambda t: t.update(normalizer=None))
    yield cell(
        "pre_tokenizer Whitespace",
        lambda t: t.update(pre_tokenizer={"type": "WhitespaceSplit"}),
    )
    yield cell(
        "no special tokens around",
        lambda t: t["post_processor"].update(
            single=[{"Sequence": {"id": "A", "type_id": 0}}]
        ),
    )
    yield cell(
        "two separators",
        lambda t: t["post_processor"]["single"].append(
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
        ),
    )
    yield cell(
        "type id 1",
        _type_id_1,
    )
    yield cell(
        "max_input_chars_per_word 8",
        lambda t: t["model"].update(max_input_chars_per_word=8),
    )
    yield cell(
        "continuing_subword_prefix",
        lambda t: t["model"].update(continuing_subword_prefix="_"),
    )
    yield cell(
        "pre_tokenizer Digits",
        lambda t: t.update(
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    t["pre_tokenizer"],
                ],
            }
        ),
        family="roberta",
        unlike="",
    )
    yield cell(
        "normalizer Lowercase",
        lambda t: t.update(normalizer={"type": "Lowercase"}),
        family="roberta",
    )
    yield cell(
        "use_regex false",
        lambda t: t["pre_tokenizer"].update(use_regex=False),
        family="roberta",
        unlike="",
    )
    yield cell(
        "dropout", lambda t: t["model"].update(dropout=0.5), family="roberta", unlike=""
    )
    yield cell(
        "no normalizer", lambda t: t.update(normalizer=None), family="xlm-roberta"
    )
    yield cell(
        "BPE with byte_fallback",
        lambda t: t["model"].update(byte_fallback=True),
        family="xlm-roberta",
        unlike="",
    )


def _type_id_1(tokenizer: Any) -> None:
    for piece in tokenizer["post_processor"]["single"]:
        for settings in piece.values():
            settings["type_id"] = 1
