"""KerasHub's TextEmbedder presets are read as KerasHub itself reads them."""

import keras
import keras_hub
import numpy as np
import pytest

from simcse_tf import SimCSE

pytestmark = pytest.mark.usefixtures("eagerly")

SENTENCES = [
    "A man is playing a guitar.",
    "Is this a token, or a new thing?",
    "the the the the",
    "The train to Lyon leaves at noon and children build a castle of sand all night",
    "x",
    "",
]
SIZES = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "max_sequence_length": 32,
}


def bert(checkpoints, pooling: str, normalize: bool) -> keras_hub.models.TextEmbedder:
    models = keras_hub.models
    directory = checkpoints.arguments("5/bert/mean")["preset"]
    tokenizer = models.BertTokenizer(f"{directory}/vocab.txt", lowercase=True)
    size = tokenizer.vocabulary_size()
    backbone = models.BertBackbone(vocabulary_size=size, **SIZES)
    preprocessor = models.BertTextEmbedderPreprocessor(tokenizer, sequence_length=20)
    return models.BertTextEmbedder(backbone, preprocessor, pooling, normalize)


def xlm_roberta(
    checkpoints, pooling: str, normalize: bool
) -> keras_hub.models.TextEmbedder:
    models = keras_hub.models
    directory = checkpoints.arguments("5/xlm-roberta/mean")["preset"]
    tokenizer = models.XLMRobertaTokenizer(f"{directory}/sentencepiece.bpe.model")
    size = tokenizer.vocabulary_size()
    backbone = models.XLMRobertaBackbone(vocabulary_size=size, **SIZES)
    preprocessor = models.XLMRobertaTextEmbedderPreprocessor(
        tokenizer, sequence_length=20
    )
    return models.XLMRobertaTextEmbedder(backbone, preprocessor, pooling, normalize)


@pytest.mark.parametrize(
    ("make", "pooling", "normalize"),
    [
        (bert, "mean", True),
        (bert, "cls", True),
        (bert, "max", False),
        (xlm_roberta, "mean", False),
        (xlm_roberta, "cls", True),
    ],
)
def test_a_preset_of_kerashub_embeds_as_in_kerashub(
    make, pooling, normalize, checkpoints, tmp_path
):
    keras.utils.set_random_seed(3)
    embedder = make(checkpoints, pooling, normalize)
    # Far from the small values that they start with: poolings then differ.
    embedder.backbone.set_weights([w * 8 for w in embedder.backbone.get_weights()])
    embedder.save_to_preset(str(tmp_path / "preset"))
    references = np.array(embedder(embedder.preprocessor(SENTENCES)))
    references /= np.linalg.norm(references, axis=1, keepdims=True)

    model = SimCSE.from_preset(str(tmp_path / "preset"))
    embeddings = model(model.preprocess(SENTENCES)).numpy()

    assert (embeddings * references).sum(1).min() >= 0.999999
    assert np.abs(embeddings - references).max() < 1e-5
