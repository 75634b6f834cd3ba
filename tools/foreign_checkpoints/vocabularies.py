"""Three tokenizers of a few hundred tokens, as files that their families start from.

They are made once. Both libraries' versions then read the same files, so that equal
weights are equal files.
"""

import io
import json
from collections import Counter
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from foreign_checkpoints.texts import CORPUS

WORDS = 150
BYTE_LEVEL_SIZE = 420
UNIGRAM_SIZE = 420


def write_vocabularies(directory: Path) -> None:
    """Writes `bert/`, `roberta/` and `xlm-roberta/` below a directory."""
    for family in ("bert", "roberta", "xlm-roberta"):
        (directory / family).mkdir(parents=True, exist_ok=True)
    write_wordpiece(directory / "bert")
    write_byte_level(directory / "roberta")
    write_unigram(directory / "xlm-roberta")


def write_wordpiece(directory: Path) -> None:
    """All characters of the corpus, its most frequent words, and some endings."""
    characters = sorted(set(CORPUS) - set(" \n"))
    counts = Counter(CORPUS.split())
    words = sorted(
        (w for w in counts if w.isalpha() and len(w) > 1), key=lambda w: (-counts[w], w)
    )
    endings = ["ing", "ed", "er", "ly", "s", "es", "th", "on", "en", "al"]
    tokens = [
        *("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *characters,
        *words[:WORDS],
        *(f"##{c}" for c in characters),
        *(f"##{ending}" for ending in endings),
    ]
    text = "".join(f"{token}\n" for token in dict.fromkeys(tokens))
    (directory / "vocab.txt").write_text(text, "utf-8")


def write_byte_level(directory: Path) -> None:
    """RoBERTa's order of ids: its special tokens first, the mask last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_LEVEL_SIZE - 5,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].get)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *learned, "<mask>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (directory / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    text = "#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges)
    (directory / "merges.txt").write_text(text, "utf-8")


def write_unigram(directory: Path) -> None:
    """A SentencePiece model with XLM-RoBERTa's normalizer."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.strip().split("\n") * 4),
        model_writer=file,
        model_type="unigram",
        vocab_size=UNIGRAM_SIZE,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (directory / "sentencepiece.bpe.model").write_bytes(file.getvalue())
