import re

import pytest
import yaml

from simcse_tf.exporting.manifest import TrainingRecord
from simcse_tf.exporting.model_card import CardFacts, base_model, model_card

FACTS = CardFacts(
    name="org/mine",
    family="bert",
    pooling="cls",
    layers=["a dense layer of 16 with tanh"],
    max_length=32,
    dimensions=16,
    parameters=1_234_567,
    prompts={"query": "find: ", "document": ""},
    default_prompt=None,
)
TRAINING = TrainingRecord(
    data="nli.csv",
    config={
        "model": {"preset": "hf://google-bert/bert-base-uncased", "max_length": 32},
        "objective": {"kind": "contrastive", "temperature": 0.05},
        "training": {"epochs": 3, "max_steps": None, "batch_size": 512},
    },
    dev={"step": 250, "STSBenchmark": 86.2},
    test={"STS12": 75.31, "STSBenchmark": 84.254, "avg": 81.57},
)


def front_matter(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.S)[1])


def test_the_hub_reads_what_the_model_is_and_its_scores():
    matter = front_matter(model_card(FACTS, TRAINING))
    assert matter["library_name"] == "sentence-transformers"
    assert matter["pipeline_tag"] == "sentence-similarity"
    assert {"sentence-transformers", "simcse"} <= set(matter["tags"])
    assert matter["base_model"] == "google-bert/bert-base-uncased"
    [index] = matter["model-index"]
    assert index["name"] == "mine"
    assert {
        result["dataset"]["name"]: result["metrics"][0]["value"]
        for result in index["results"]
    } == {"STS12": 0.7531, "STSBenchmark": 0.8425}


def test_a_card_tells_how_the_model_was_trained_and_how_to_use_it():
    card = model_card(FACTS, TRAINING)
    for line in (
        "| pooling | cls, then a dense layer of 16 with tanh |",
        "| parameters | 1,234,567 |",
        '| prompt `query` | "find: " |',
        "| began with | google-bert/bert-base-uncased |",
        "| data | nli.csv |",
        "| objective | contrastive |",
        "| batch size | 512 |",
        "| STSBenchmark | test | 84.25 |",
        "| STSBenchmark | dev | 86.20 |",
        'model = SentenceTransformer("org/mine")',
        'queries = model.encode_query(["Who plays the guitar?"])',
        "text-embeddings-router --model-id org/mine --port 8080",
        'model = SimCSE.from_preset("hf://org/mine")',
        "@inproceedings{gao-etal-2021-simcse,",
    ):
        assert line in card.splitlines()
    assert "max steps" not in card
    assert "| step |" not in card


def test_a_model_of_no_run_is_not_said_to_be_trained_here():
    card = model_card(FACTS, None, source="hf://org/theirs")
    assert "exported by simcse_tf" in card
    assert "## Training" not in card
    assert "## Scores" not in card
    matter = front_matter(card)
    assert matter["base_model"] == "org/theirs"
    assert "model-index" not in matter
    assert "simcse" not in matter["tags"]


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("hf://org/name", "org/name"),
        ("bert_base_en_uncased", "bert_base_en_uncased"),
        ("kaggle://keras/bert/keras/base", "kaggle://keras/bert/keras/base"),
        ("package://some_package/model", "package://some_package/model"),
    ],
)
def test_a_base_model_has_its_public_name(preset, name):
    assert base_model(preset) == name


def test_directories_of_this_machine_stay_out_of_a_card(tmp_path):
    (tmp_path / "mine").mkdir()
    assert base_model(str(tmp_path / "mine")) == "mine"
