"""The files of a Hugging Face tokenizer, and what they say in common."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json
from simcse_tf.core.regular_files import is_there

# Classes that take tokenizer.json as it stands. The others replace parts of it by what
# tokenizer_config.json and their own defaults say.
GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")

_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
# Keys of tokenizer_config.json that change ids, and the values with which they do not.
_ONLY_WITH: dict[str, tuple[Any, ...]] = {
    "truncation_side": ("right", None),
    "padding_side": ("right", None),
    "auto_map": ({}, None),
    "fast_tokenizer_files": ([], None),
    "from_slow": (False, None),
    "fix_mistral_regex": (False, None),
    "gguf_file": (None,),
}
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
SPECIAL_KEYS = tuple(f"{name}_token" for name in _NAMES)


class TokenizerSource:
    """The files of a directory that decide a tokenizer's ids.

    Args:
        directory: The directory.
        model_type: string. As in `config.json`; it names the tokenizer's class where
            no file does.

    Attributes:
        directory: The directory.
        class_name: string. The tokenizer's class in transformers, without `Fast`.
        config: dict. What `tokenizer_config.json` holds; empty without one.
        json: dict or `None`. What `tokenizer.json` holds.

    Raises:
        UserError: If a file cannot be read, or has a key that we do not implement.

    Example:

    ```python
    source = TokenizerSource(Path("models/theirs"), "bert")
    source.class_name  # "BertTokenizer"
    ```
    """

    def __init__(self, directory: Path, model_type: str):
        self.directory = directory
        self.config: dict[str, Any] = self.read("tokenizer_config.json") or {}
        self.json: dict[str, Any] | None = self.read("tokenizer.json")
        self.class_name = self._class_name(model_type)
        self._check_config()
        if self.json is not None:
            self._check_json(self.json)

    @property
    def is_generic(self) -> bool:
        """Whether `tokenizer.json` is the whole truth."""
        return self.class_name in GENERIC

    def read(self, name: str) -> Any:
        """Reads a JSON file of the directory; `None` where there is none."""
        path = self.directory / name
        if not is_there(path):
            return None
        values = read_json(path)
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected a JSON object")
        return values

    def refuse(self, file: str, key: str, value: Any, expected: str) -> NoReturn:
        """Raises the error that names a file, a key of it and the value.

        Raises:
            UserError: Always.
        """
        shown = repr(value)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        raise UserError(
            f"{self.directory / file}: {key} is {shown}, which is not implemented; "
            f"expected {expected}"
        )

    def check(
        self, key: str, value: Any, allowed: Collection[Any], file: str = ""
    ) -> None:
        """Refuses a value that is none of those that are implemented.

        Args:
            key: string. The key, as the message shall name it.
            value: Its value.
            allowed: The values that are implemented.
            file: string. The file's name. Defaults to `tokenizer.json`.

        Raises:
            UserError: If it is another value.
        """
        if not any(value == each and type(value) is type(each) for each in allowed):
            expected = " or ".join(map(repr, allowed))
            self.refuse(file or "tokenizer.json", key, value, expected)

    def check_config(self, key: str, allowed: Collection[Any], default: Any) -> Any:
        """Looks up a key of `tokenizer_config.json` and checks it.

        Args:
            key: string. The key.
            allowed: The values that are implemented.
            default: The value where the key is missing.

        Returns:
            The value.

        Raises:
            UserError: If it is another value.
        """
        value = self.config.get(key, default)
        self.check(key, value, allowed, "tokenizer_config.json")
        return value

    def part(self, name: str) -> dict[str, Any]:
        """A part of `tokenizer.json`; its `type` is `""` where the part is missing."""
        part = (self.json or {}).get(name) or {}
        if not isinstance(part, dict):
            self.refuse("tokenizer.json", name, part, "an object")
        return {"type": "", **part}

    def special_tokens(self) -> dict[str, Any]:
        """What the files say about special tokens, by the key, such as `cls_token`."""
        values = self.config
        if "added_tokens_decoder" not in values:
            values = {**values, **(self.read("special_tokens_map.json") or {})}
        keys = (*SPECIAL_KEYS, "additional_special_tokens", "extra_special_tokens")
        found = {key: values[key] for key in keys if values.get(key) is not None}
        for key, value in found.items():
            if key.endswith("_tokens") and not isinstance(value, list | dict):
                self.refuse("tokenizer_config.json", key, value, "a list")
        return found

    def check_special_tokens(self, expected: Mapping[str, str]) -> None:
        """Refuses special tokens of other names than those of the family.

        Args:
            expected: Mapping from string to string. The names, by their keys.

        Raises:
            UserError: If one has another name.
        """
        for key, value in self.special_tokens().items():
            content = value.get("content") if isinstance(value, dict) else value
            if key in expected and content != expected[key]:
                self.refuse("tokenizer_config.json", key, content, repr(expected[key]))

    def in_order(self, vocabulary: Any, file: str = "tokenizer.json") -> list[str]:
        """Puts the tokens of a vocabulary in the order of their ids.

        Args:
            vocabulary: dict from string to int. The tokens and their ids.
            file: string. The file's name. Defaults to `"tokenizer.json"`.

        Returns:
            list of string.

        Raises:
            UserError: If the ids are not those from 0 on, each once.
        """
        ids = vocabulary if isinstance(vocabulary, dict) else {}
        if any(type(index) is not int for index in ids.values()):
            ids = {}
        tokens = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in tokens] != [*range(len(ids))] or not ids:
            raise UserError(
                f"{self.directory / file}: expected a vocabulary with all ids from 0 "
                f"on, each once; received {len(ids)} tokens"
            )
        return tokens

    def _class_name(self, model_type: str) -> str:
        model_config = self.read("config.json") or {}
        name = (
            self.config.get("tokenizer_class")
            or model_config.get("tokenizer_class")
            or _CLASS_OF_MODEL.get(model_type)
        )
        if not isinstance(name, str):
            raise UserError(
                f"{self.directory}: no tokenizer_class in tokenizer_config.json, and "
                f"none is known for the model type {model_type!r}"
            )
        return name.removesuffix("Fast")

    def _check_config(self) -> None:
        for key, allowed in _ONLY_WITH.items():
            self.check_config(key, allowed, None)
        for key, value in self.config.items():
            if (
                key.endswith("_token")
                and key not in SPECIAL_KEYS
                and isinstance(value, str | dict)
            ):
                self.refuse("tokenizer_config.json", key, value, "no such key")
        names = self.config.get("model_input_names") or ["attention_mask"]
        if "attention_mask" not in names:
            self.refuse(
                "tokenizer_config.json",
                "model_input_names",
                names,
                "attention_mask among them",
            )

    def _check_json(self, values: dict[str, Any]) -> None:
        self.check("version", values.get("version"), ("1.0",))
        # tokenizer_config.json has the last word on both sides.
        for part, key in (("truncation", "truncation"), ("padding", "padding")):
            direction = (values.get(part) or {}).get("direction", "Right")
            if self.config.get(f"{key}_side") is None:
                self.check(f"{part}.direction", direction, ("Right",))


def enclosing_tokens(source: TokenizerSource) -> tuple[tuple[str, int], ...]:
    """The two tokens that `tokenizer.json` puts around a text.

    Args:
        source: The tokenizer's files.

    Returns:
        tuple of (content, id): the first token's and the last one's.

    Raises:
        UserError: If it puts something else around a text.

    Example:

    ```python
    enclosing_tokens(source)  # (("[CLS]", 101), ("[SEP]", 102))
    ```
    """
    processor = source.part("post_processor")
    if processor["type"] == "Sequence":
        # ByteLevel among them moves offsets alone.
        processors = processor.get("processors") or []
        others = [each for each in processors if each.get("type") != "ByteLevel"]
        processor = others[0] if len(others) == 1 else {"type": processors}
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        (cls, cls_id), (sep, sep_id) = processor["cls"], processor["sep"]
        return (cls, cls_id), (sep, sep_id)
    if processor["type"] != "TemplateProcessing":
        source.refuse(
            "tokenizer.json",
            "post_processor.type",
            processor["type"],
            "TemplateProcessing, BertProcessing or RobertaProcessing",
        )
    return _of_template(source, processor)


def _of_template(
    source: TokenizerSource, processor: dict[str, Any]
) -> tuple[tuple[str, int], ...]:
    single = processor.get("single") or []
    kinds = [next(iter(piece)) for piece in single]
    pieces = [next(iter(piece.values())) for piece in single]
    is_known = (
        kinds == ["SpecialToken", "Sequence", "SpecialToken"]
        and pieces[1].get("id") == "A"
        and not any(piece.get("type_id") for piece in pieces)
    )
    tokens = processor.get("special_tokens") or {}
    known = [tokens.get(piece.get("id"), {}) for piece in pieces[::2]]
    if not is_known or any(len(token.get("ids", [])) != 1 for token in known):
        source.refuse(
            "tokenizer.json",
            "post_processor.single",
            single,
            "one token, the text, one token, all of type 0",
        )
    return tuple(
        (piece["id"], token["ids"][0])
        for piece, token in zip(pieces[::2], known, strict=True)
    )
