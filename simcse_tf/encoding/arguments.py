"""The flags that say how a MODEL is to be read, for all commands that take one."""

import argparse
import sys
from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import one_line
from simcse_tf.encoders.pooling import POOLINGS, poolers_of

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "int8")

# What `[CLS]` and `[SEP]` alone take.
_SHORTEST = 2


def add_reading_flags(
    parser: argparse.ArgumentParser, of: str = "", cut: str = "the checkpoint's"
) -> None:
    """Adds `--pooling`, `--max-length` and `--prompt`.

    Args:
        parser: The command's parser.
        of: string. Which model they are for, where there are several.
        cut: string. Where texts are cut without the flag.

    Example:

    ```python
    add_reading_flags(parser)
    SimCSE.from_preset("hf://org/name", **reading_of(parser.parse_args()))
    ```
    """
    parser.add_argument(
        "--pooling",
        type=_pooling,
        metavar="P",
        help=f"{of}{', '.join(POOLINGS)}, or several joined by +; default: the "
        "checkpoint's",
    )
    parser.add_argument(
        "--max-length",
        type=_length,
        metavar="N",
        help=f"{of}tokens a text is cut at; default: {cut}",
    )
    parser.add_argument(
        "--prompt",
        metavar="NAME",
        help=f"{of}the name of one of the model's prompts, put before every text; "
        "default: the one that it uses",
    )


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--precision` to the command of what embeds in process.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_precision_flag(parser)
    SimCSE.from_preset("runs/mine/best", dtype=parser.parse_args().precision)
    ```
    """
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="what the model computes in; embeddings are float32",
    )


def reading_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags as arguments of `SimCSE.from_preset` and `load_encoder`.

    Example:

    ```python
    reading_of(parser.parse_args(["--prompt", "query"]))["prompt_name"]  # "query"
    ```
    """
    return {
        "pooling": arguments.pooling,
        "max_length": arguments.max_length,
        "prompt_name": arguments.prompt,
    }


def say_how_read(model: Any, name: str, length: int | None = None) -> None:
    """Prints on stderr how a foreign model was read; of one of our own, nothing.

    Args:
        model: A `simcse_tf.SimCSE`.
        name: string. What the user called it.
        length: Optional int. Tokens a text is cut at. Defaults to the model's own.

    Example:

    ```python
    say_how_read(model, arguments.model)
    # minilm: model.safetensors read as: mean pooling, l2-normalized, no prompt, 256
    # tokens
    ```
    """
    if model.reading is not None:
        tokens = model.max_length if length is None else length
        # The checkpoint's own words are in it.
        line = one_line(f"{name}: {model.reading}, {tokens} tokens")
        print(line, file=sys.stderr)


def _pooling(text: str) -> str:
    try:
        poolers_of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _length(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < _SHORTEST:
        raise argparse.ArgumentTypeError(
            f"expected {_SHORTEST} tokens or more, received {text!r}"
        )
    return int(text)
