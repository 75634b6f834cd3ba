"""Every family computes what transformers computes, and trains as the paper's code."""

import numpy as np
import pytest
import tensorflow as tf
from support.transformers import ARCHITECTURES, Reference

from simcse_tf import SimCSE
from simcse_tf.encoders.families import encoder_of
from simcse_tf.encoders.keras_layers import KerasLayersEncoder, configure_layers
from simcse_tf.encoders.transformer import PlainEncoder
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.training.optimizer import LinearDecay, adam

COLUMNS = ("anchor", "positive", "hard_negative")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def reference(request):
    return Reference(request.param)


@pytest.mark.parametrize("form", ["packed", "grid", "keras layers"])
@pytest.mark.parametrize("training", [False, True])
def test_hidden_states_are_those_of_transformers(reference, form, training):
    backbone = reference.backbone()
    configure_layers(backbone, reference.architecture.activation)
    if form == "keras layers":
        encoder = KerasLayersEncoder(backbone, (0, -1))
    else:
        encoder = encoder_of(backbone, (0, -1), static_shapes=form == "grid")
        assert isinstance(encoder, PlainEncoder)
    received = encoder.hidden_states(
        encoder.weights(),
        reference.features(backbone),
        tf.constant([1, 2]) if training else None,
    )
    is_token = reference.masks[0, 0] > 0
    for states, expected in zip(received, reference.hidden_states, strict=True):
        np.testing.assert_allclose(
            states.numpy()[is_token], expected[is_token], atol=1e-5
        )


# One family's always: what the others compute otherwise is tested above.
@pytest.mark.slow
@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(name, marks=() if name == "bert" else pytest.mark.attack)
        for name in ARCHITECTURES
    ],
    indirect=True,
)
def test_twenty_supervised_steps_are_those_of_the_papers_code(reference):
    backbone = reference.backbone()
    model = SimCSE(
        backbone,
        BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]),
        max_length=backbone.max_sequence_length,
        activation=reference.architecture.activation,
    )
    model.head.set_weights(reference.head)
    steps = len(reference.losses)
    model.compile(adam(LinearDecay(1e-3, steps)), objective=Contrastive(0.05))
    received = []
    for step in range(steps):
        batch = {
            name: reference.features(backbone, step, column)
            for column, name in enumerate(COLUMNS)
        }
        batch = tf.nest.map_structure(tf.constant, batch)
        received.append(model.train_on_batch(batch, return_dict=True)["loss"])
    np.testing.assert_allclose(received, reference.losses, rtol=1e-3)
