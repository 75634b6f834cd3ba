import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.encoders.bert import BertEncoder
from simcse_tf.encoders.dropout import seeded_dropout
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.encoders.pooling import layers_read
from simcse_tf.model.batches import CPU_LIMITS
from simcse_tf.model.batches import batches as encoding_batches
from simcse_tf.model.bulk import encode
from simcse_tf.model.tokens import Tokens
from simcse_tf.objectives.views import embed_views, stack_views

# One of each kind: first tokens of the last layer, one layer, several layers.
POOLINGS = ("cls", "avg", "avg_first_last")
MIXED_LENGTHS = [text * (1 + 7 * i % 5) for i, text in enumerate(SENTENCES)]


def with_keras_layers(model):
    """The same model, computed by KerasHub's layers."""
    other = SimCSE(model.backbone, model.tokenizer, **model.settings())
    layers = layers_read(model.pooling)
    other.embedder.encoder = KerasLayersEncoder(model.backbone, layers)
    if model.head is not None:
        other.head.set_weights(model.head.get_weights())
    return other


def both(model):
    features = model.preprocess(MIXED_LENGTHS)
    layers = with_keras_layers(model)
    assert isinstance(layers.embedder.encoder, KerasLayersEncoder)
    assert isinstance(model.embedder.encoder, BertEncoder)
    return layers.embedder.embed(features), model.embedder.embed(features)


# Each of both once always, all pairs where there is time.
SETTINGS = ((None, None), ("gelu", 1e-3), ("relu", 0.1))
PAIRS = [
    pytest.param(pooling, *setting, marks=() if i == j else pytest.mark.attack)
    for i, pooling in enumerate(POOLINGS)
    for j, setting in enumerate(SETTINGS)
]


@pytest.mark.parametrize(("pooling", "activation", "epsilon"), PAIRS)
def test_plain_operations_equal_the_keras_layers(
    small_preset, pooling, activation, epsilon
):
    model = SimCSE.from_preset(
        str(small_preset),
        pooling=pooling,
        head_init="random",
        activation=activation,
        layer_norm_epsilon=epsilon,
    )
    np.testing.assert_allclose(*both(model), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pooling", "of_first_tokens"), [("cls_before_pooler", 4), ("avg", 0)]
)
def test_a_cls_poolers_last_layer_computes_first_tokens_only(
    small_preset, pooling, of_first_tokens
):
    model = SimCSE.from_preset(str(small_preset), pooling=pooling)
    inputs = model.preprocess(MIXED_LENGTHS)
    graph = tf.function(model.embedder.embed).get_concrete_function(
        inputs, model.embedder.weights()
    )
    sentences, tokens = len(MIXED_LENGTHS), inputs["token_ids"].shape.num_elements()
    rows = [
        operation.outputs[0].shape[0]
        for operation in graph.graph.get_operations()
        if operation.type == "MatMul"
    ]
    # Query, attention's output and the two feed-forward products.
    assert rows.count(sentences) == of_first_tokens
    # A layer has four products of all tokens; one is left of keys and values.
    layers = model.backbone.num_layers
    assert rows.count(tokens) == 4 * layers - (3 if of_first_tokens else 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_as_near_to_float32_as_the_keras_layers_are(
    small_preset, dtype
):
    reference, _ = both(SimCSE.from_preset(str(small_preset)))
    layers, plain = both(SimCSE.from_preset(str(small_preset), dtype=dtype))
    error = np.abs(layers - reference).max()
    assert 0 < np.abs(plain - reference).max() < 2 * error


@pytest.mark.slow
def test_no_product_in_float16_can_be_fused_with_its_bias(small_preset):
    """Fused, it takes a thousand times as long on a CPU."""
    # Without a head, which is a layer of Keras and a single small product.
    model = SimCSE.from_preset(str(small_preset), pooling="avg", dtype="mixed_float16")
    graph = tf.function(model.embedder.embed).get_concrete_function(
        model.preprocess(SENTENCES), model.embedder.weights()
    )
    products = {
        operation.type
        for operation in graph.graph.get_operations()
        if "MatMul" in operation.type and operation.outputs[0].dtype == tf.float16
    }
    assert products == {"BatchMatMulV2"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_weights_that_changed_are_read_anew(small_preset, dtype):
    model = SimCSE.from_preset(str(small_preset), dtype=dtype)
    before = encode(model, SENTENCES)
    for variable in model.backbone.trainable_variables:
        variable.assign(variable * 1.5)
    after = encode(model, SENTENCES)
    assert np.abs(after - before).max() > 1e-2
    atol = 2e-6 if dtype == "float32" else 3e-2
    np.testing.assert_allclose(after, model.predict(SENTENCES, verbose=0), atol=atol)


def test_what_occurs_twice_is_computed_once(small_preset, monkeypatch):
    model = SimCSE.from_preset(str(small_preset))
    rows = []
    padded = Tokens.padded

    def counting(tokens, batch):
        rows.append(len(batch.rows))
        return padded(tokens, batch)

    monkeypatch.setattr(Tokens, "padded", counting)
    repeated = [*SENTENCES, *reversed(SENTENCES), SENTENCES[0]]
    received = encode(model, repeated)
    assert sum(rows) == len(set(SENTENCES))
    np.testing.assert_array_equal(
        received[: len(SENTENCES)], received[len(SENTENCES) : -1][::-1]
    )


def test_several_blocks_give_what_one_gives(small_preset, monkeypatch):
    model = SimCSE.from_preset(str(small_preset))
    expected = encode(model, MIXED_LENGTHS)
    monkeypatch.setattr("simcse_tf.model.bulk.BLOCK", 3)
    np.testing.assert_allclose(encode(model, MIXED_LENGTHS, 2), expected, atol=1e-6)


def test_long_sentences_are_fewer_in_a_batch():
    lengths = np.array([3, 512, 40, 512, 300] * 60)
    batches = [batch.rows for batch in encoding_batches(lengths, CPU_LIMITS)]
    assert sorted(np.concatenate(batches)) == list(range(300))
    assert max(len(rows) * lengths[rows].max() for rows in batches) <= 4096
    assert max(map(len, batches)) == 64


@pytest.mark.parametrize("pooling", [*POOLINGS, "max+lasttoken"])
def test_a_training_pass_without_dropout_has_the_layers_gradients(
    small_preset, pooling
):
    model = SimCSE.from_preset(
        str(small_preset), pooling=pooling, head_init="random", dropout=0.0
    )
    views = [model.preprocess(MIXED_LENGTHS), model.preprocess(MIXED_LENGTHS[::-1])]
    shape = [2, len(MIXED_LENGTHS), model.embedding_dim]
    direction = tf.random.stateless_normal(shape, [1, 2])

    def gradients(encode):
        with tf.GradientTape() as tape:
            embeddings = encode()
            total = tf.reduce_sum(embeddings * direction)
        found = tape.gradient(total, model.trainable_variables)
        return embeddings, list(map(tf.convert_to_tensor, found))

    seed = tf.constant([3, 4])
    layers = with_keras_layers(model)
    layers.head = model.head
    layers.embedder.head = model.head
    stacked = stack_views({"anchor": views[0], "positive": views[1]})
    expected = gradients(
        lambda: tf.stack([layers.embedder.embed(view, seed=seed) for view in views])
    )
    received = gradients(
        lambda: embed_views([model.embedder] * 2, stacked, seed, same_mask=False)
    )
    np.testing.assert_allclose(received[0], expected[0], atol=2e-6)
    for one, other in zip(received[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=2e-4)


def test_dropout_drops_at_the_layers_rate_and_keeps_the_mean():
    seeds = iter(tf.unstack(tf.random.split([1, 2], 3)))
    drop = seeded_dropout(seeds)
    ones = tf.ones([1001, 333])
    one, other = drop(ones, 0.1).numpy(), drop(ones, 0.1).numpy()
    for dropped in (one, other):
        assert set(np.unique(dropped)) == {0.0, np.float32(1 / (1 - 6554 / 65536))}
        assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.002)
        for axis in (0, 1):
            assert np.abs((dropped == 0).mean(axis) - 0.1).max() < 0.1
    assert ((one == 0) & (other == 0)).mean() == pytest.approx(0.01, abs=0.001)
    np.testing.assert_array_equal(drop(ones, 0.0), ones)


def test_masks_follow_from_the_seed_and_differ_between_equal_sentences(small_preset):
    model = SimCSE.from_preset(str(small_preset), dropout=0.1)
    view = model.preprocess(["the same words", "the same words"])

    def embed(seed):
        views = stack_views({"anchor": view})
        embedders = [model.embedder] * 2
        return embed_views(embedders, views, tf.constant(seed), same_mask=False)

    first = embed([1, 2]).numpy()
    np.testing.assert_array_equal(first, embed([1, 2]))
    rows = np.concatenate([*first, *embed([1, 3]).numpy()])
    similarities = rows @ rows.T - np.eye(len(rows))
    assert similarities.max() < 1 - 1e-6
