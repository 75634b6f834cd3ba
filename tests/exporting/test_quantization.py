import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from simcse_tf import quantization
from simcse_tf.encode import encode
from simcse_tf.evaluation import sts
from simcse_tf.exporting import signatures
from simcse_tf.exporting.served_embedder import embedder

DIM = 384


@pytest.fixture(scope="module")
def embeddings():
    rows = np.random.default_rng(0).normal(size=(200, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_truncated_embeddings_are_the_first_components_at_unit_length(embeddings):
    short = quantization.truncate(embeddings, 100)
    assert short.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    ratio = short / embeddings[:, :100]
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(100, 1), rtol=1e-5)


def test_int8_comes_back_within_a_step(embeddings):
    codes = quantization.encode_int8(embeddings)
    assert codes.dtype == np.int8
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()
    step = np.abs(embeddings).max(axis=1, keepdims=True) / 127
    decoded = quantization.decode_int8(codes)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-6)
    assert (np.abs(decoded - embeddings) <= 0.6 * step).all()


def test_bits_are_the_signs_in_the_order_of_packbits():
    rows = np.array([[1, -1, -1, -1, -1, -1, -1, 0.5, 0, 2]], np.float32)
    bits = quantization.encode_binary(rows)
    assert bits.tolist() == [[0b10000001, 0b01000000]]
    decoded = quantization.decode_binary(bits, 10)
    np.testing.assert_allclose(decoded, [np.where(rows[0] > 0, 1, -1) / np.sqrt(10)])


def test_the_hamming_distance_estimates_the_cosine(embeddings):
    other = embeddings + np.roll(embeddings, 1, axis=0)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    bits, other_bits = map(quantization.encode_binary, (embeddings, other))
    distance = quantization.hamming_distance(bits, other_bits)
    assert distance.tolist() == ((embeddings > 0) != (other > 0)).sum(axis=1).tolist()
    estimate = quantization.estimated_cosine(distance, DIM)
    cosine = (embeddings * other).sum(axis=1)
    assert np.abs(estimate - cosine).max() < 0.3
    assert abs((estimate - cosine).mean()) < 0.02


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 384])
def test_the_graph_computes_what_numpy_does(dim):
    rows = np.random.default_rng(dim).normal(size=(50, dim)).astype(np.float32)
    rows[0] = 0
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    truncate_dims = [1] if dim > 1 else []
    for signature in signatures.signatures(dim, truncate_dims, ["int8", "binary"]):
        if getattr(signature, "inputs", None) == ("text",):
            received = signature.in_graph(tf.constant(rows)).numpy()
            wanted = signature.reference(rows)
            assert received.dtype == wanted.dtype
            np.testing.assert_allclose(received, wanted, atol=1e-6)


def test_equal_texts_are_computed_once():
    class Counter:
        """Embeds a text as the number of texts that are computed with it."""

        max_length = 8
        pooled_dim = 1
        prompt = ""
        compute_dtype = "float32"
        tokenizer = SimpleNamespace(sep_token_id=1)
        static_shapes = False
        embedder = property(lambda self: self)

        def tokens(self, text, max_length, prompt):
            ones = tf.ones_like(tf.strings.length(text))
            return tf.RaggedTensor.from_row_lengths(ones, tf.cast(ones, tf.int64))

        def pad(self, tokens):
            return tokens.to_tensor()

        def weights(self):
            return {}

        def pooled(self, tokens, weights):
            rows = tf.shape(tokens)[0]
            return tf.fill([rows, 1], rows)

        def finished(self, vectors):
            return vectors

    embed = embedder(Counter())
    received = embed(tf.constant(["a", "b", "a", "a", "c", "b"])).embedding
    assert received.numpy().tolist() == [[3.0]] * 6


def test_decoding_needs_no_tensorflow():
    code = "import sys, simcse_tf.quantization; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# `evaluate` scores the same model on the same pairs, in test_evaluate.py.
@pytest.mark.attack
def test_storage_costs_minilm_little_on_sts_b(minilm, data_dir):
    """Every kind within the loss that docs/export.md states, rounded up."""
    pairs = sts.load_task(data_dir / "senteval", "STSBenchmark", "test")
    sentences = sorted({*pairs.sentences_a, *pairs.sentences_b})
    row = {sentence: number for number, sentence in enumerate(sentences)}
    embeddings = encode(minilm, sentences)
    kinds = {
        "float32": (embeddings, 82.03),
        "256": (quantization.truncate(embeddings, 256), 81.89),
        "128": (quantization.truncate(embeddings, 128), 80.67),
        "int8": (quantization.decode_int8(quantization.encode_int8(embeddings)), 82.04),
        "binary": (
            quantization.decode_binary(quantization.encode_binary(embeddings), DIM),
            80.86,
        ),
    }
    sides = [
        [row[sentence] for sentence in side]
        for side in (pairs.sentences_a, pairs.sentences_b)
    ]
    for name, (decoded, expected) in kinds.items():
        similarity = sts.cosine_similarity(*(decoded[side] for side in sides))
        assert sts.score(similarity, pairs) == pytest.approx(expected, abs=0.02), name


@pytest.mark.parametrize(
    "write", [quantization.encode_int8, quantization.encode_binary]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_no_code_can_tell_is_refused(write, value):
    with pytest.raises(ValueError, match=f"embeddings, row 2: .* received {value}"):
        write(np.array([[0.6, 0.8], [value, 0.0]], np.float32))
