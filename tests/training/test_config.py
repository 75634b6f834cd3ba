import json

import keras_hub
import pytest
from support.models import MINILM, ROOT

from simcse_tf.core.errors import UserError
from simcse_tf.training.config import as_begun, load_begun, load_config, parse_config

MINIMAL = {
    "model": {"preset": "p"},
    "data": {"train": "t.txt"},
    "output_dir": "runs/x",
}


@pytest.fixture
def write(tmp_path):
    def write(values):
        path = tmp_path / "c.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return str(path)

    return write


def test_defaults_are_the_papers_and_are_written_out(write):
    written = json.loads(load_config(write(MINIMAL)).to_json())
    assert written == {
        "model": {
            "preset": "p",
            "pooling": "cls",
            "head_init": "random",
            "head_in_inference": True,
            "dropout": 0.1,
            "max_length": 32,
            "encoders": "shared",
        },
        "objective": {
            "kind": "contrastive",
            "next_k": 1,
            "same_mask": False,
            "temperature": 0.05,
            "hard_negative_weight": 0.0,
            "mask_duplicates": True,
            "false_negative_margin": None,
            "false_negative_guide": None,
            "queue_size": None,
            "momentum": 0.995,
            "mix_negatives": None,
            "matryoshka": None,
            "matryoshka_weights": None,
            "mlm_weight": 0.0,
            "mlm_probability": 0.15,
            "consistency_weight": 0.0,
            "teacher": None,
        },
        "data": {
            "train": "t.txt",
            "columns": None,
            "quoting": None,
            "shuffle": True,
            "no_duplicates": False,
            "seed": 42,
            "augmentation": "none",
            "augmentation_rate": 0.1,
            "augmentation_model": None,
            "evaluation": None,
        },
        "training": {
            "epochs": 3,
            "batch_size": 512,
            "micro_batch_size": None,
            "learning_rate": 5e-5,
            "warmup_steps": 0,
            "max_steps": None,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "lora_rank": None,
            "lora_alpha": None,
            "lora_targets": ["query", "value"],
            "precision": "float32",
            "compile": "auto",
            "strategy": "auto",
            "tpu": None,
            "evaluate_every": 125,
            "checkpoint_every": 500,
            "keep": 1,
            "seed": 42,
        },
        "evaluation": {"geometry_every": None, "test": True},
        "output_dir": "runs/x",
    }


def test_what_is_written_out_reads_back_the_same(write):
    config = load_config(write(MINIMAL), ["training.learning_rate=3e-5"])
    assert load_config(write(config.to_json())) == config


def test_set_overrides_numbers_strings_null_and_whole_missing_sections(write):
    config = load_config(
        write(MINIMAL),
        [
            "training.batch_size=64",
            "training.clip_norm=null",
            "model.pooling=avg+max",
            "data.shuffle=false",
            "data.train=a=b.txt",
        ],
    )
    assert config.training.batch_size == 64
    assert config.training.clip_norm is None
    assert config.model.pooling == "avg+max"
    assert config.data.shuffle is False
    assert config.data.train == "a=b.txt"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.batchsize=8"],
            r"unknown key training\.batchsize .*training\.batch_",
        ),
        (["modle.preset=x"], r"unknown key modle .*mean model"),
        (
            ["objective.false_negative_margin=2"],
            r"objective\.false_negative_margin: expected -1 to 1, received 2",
        ),
        (
            ["objective.false_negative_guide=m"],
            r"false_negative_guide: expected null without false_neg.*, received \"m\"",
        ),
        (
            ["objective.matryoshka=[64,64]"],
            r"matryoshka: expected null or different .*, received \[64, 64\]",
        ),
        (["objective.matryoshka=[]"], r"matryoshka: expected null or .*received \[\]"),
        (["objective.matryoshka=[0]"], r"objective\.matryoshka\.0: expected 1 to .*0"),
        (
            ["objective.matryoshka=[8,4]", "objective.matryoshka_weights=[1]"],
            r"matryoshka_weights: expected null, or a weight for each of .*\[1\.0\]",
        ),
        (
            ["objective.matryoshka_weights=[1]"],
            r"matryoshka_weights: expected null, or .* matryoshka null.*\[1\.0\]",
        ),
        (
            ['training.lora_targets=["keys"]'],
            r"training\.lora_targets\.0: expected 'query', 'key'.*received \"keys\"",
        ),
        (
            ["training.lora_rank=4", "training.lora_targets=[]"],
            r"lora_targets: expected different names of matrices.*received \[\]",
        ),
        (
            ['training.lora_targets=["key", "key"]'],
            r"lora_targets: expected different names of matrices",
        ),
        (
            ["training.lora_alpha=16"],
            r"lora_alpha scales .* expected null without a lora_rank, received 16",
        ),
        (["learning_rate=1"], r"unknown key learning_rate .*training\.learning_rate"),
        (["training.batch_size=abc"], r"training\.batch_size: .*integer.*\"abc\""),
        (
            ["training.batch_size=1"],
            r"training\.batch_size: expected 2 to .*, received 1$",
        ),
        (["training.batch_size=true"], r"training\.batch_size: .*integer"),
        (["model.pooling=top"], r"model\.pooling: .*avg_top2.*'top'"),
        (["model.pooling=cls+avg"], r"model\.pooling: .*cls_before_pooler"),
        (
            ["objective.temperature=NaN"],
            r"objective\.temperature: expected a valid number",
        ),
        (["data.train="], r"data\.train: expected a path or .*received \"\""),
        (["data.train=3"], r"data\.train: expected a path, or a list .*received 3"),
        (["data.train=[]"], r"data\.train: expected a path, or a list .*eceived \[\]"),
        (['data.train={"path": "a"}'], r"data\.train: expected a path, or a list of"),
        (['data.train=["a", 3]'], r"data\.train: expected a path or .*received 3"),
        (
            ['data.train=[{"path": "a", "weigth": 2}]'],
            r"data\.train: expected a path or .*received \{\"path\": \"a\", \"weigth",
        ),
        (
            ['data.train=[{"path": "a", "weight": 0}]'],
            r"data\.train: expected a weight of 0.001 to 1000 for a, received 0",
        ),
        (
            ['data.train=[{"path": "a", "weight": true}]'],
            r"data\.train: expected a weight of .*received true",
        ),
        (["output_dir=null"], r"output_dir: .*string, received null"),
        (["data=5"], r"data: .*received 5"),
        (["training.seed=" + "1" * 400], r"--set training\.seed: a number of 400 dig"),
        (["training.seed=" + "1" * 5000], r"a number of 5000 digits"),
        (["training.epochs=" + "[" * 10**5], r"training\.epochs: nested deeper"),
        (
            ['training={"seed": 1, "seed": 2}'],
            r"--set training: the key \"seed\" is th",
        ),
        (["x." * 10**5 + "x=1"], r"unknown key x"),
        (["training.epochs" + ".x" * 10**5 + "=1"], r"expected .*, received {"),
        (["x" * 10**6 + "=1"], r"unknown key x"),
        (["x" * 10**6], r"expected section\.key=value"),
        (["training.epochs=" + "x" * 10**6], r"training\.epochs: .*integer"),
        (["model.preset=\udcff"], r"model\.preset: "),
        (['model.preset="\\ud800"'], r"half a surrogate pair"),
        (["output_dir.x=1"], r"output_dir has no keys"),
        (
            ["training.batch_size"],
            r"--set training\.batch_size: expected section\.key=",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_key_on_one_line(write, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(write(MINIMAL), overrides)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1500


# What float32, or the step, makes 0, 1 or infinity of, and what has no meaning.
BEYOND = {
    "model.dropout": ("-0.1", "0.9999999", "1"),
    "model.max_length": ("2", "9" * 400),
    "objective.next_k": ("0", "2147483648"),
    "objective.temperature": ("0", "1e-320", "-0.05", "1e30"),
    "objective.hard_negative_weight": ("1e308", "-1e308"),
    "objective.queue_size": ("0", "9" * 400),
    "objective.momentum": ("-0.1", "1.0000001"),
    "objective.mix_negatives": ("0", "1e-320", "0.9999999999", "1"),
    "objective.mlm_weight": ("-1", "1e38"),
    "objective.mlm_probability": ("0", "1e-320", "0.9999999999", "1"),
    "objective.consistency_weight": ("-1", "1e38"),
    "data.seed": ("-1", "2147483648", "18446744073709551616"),
    "data.augmentation_rate": ("0", "1e-320", "0.9999999999", "1"),
    "training.epochs": ("0", "9" * 400),
    "training.batch_size": ("1", "4294967296"),
    "training.micro_batch_size": ("0", "9" * 400),
    "training.learning_rate": ("0", "1e-320", "1e30", "1" + "0" * 400),
    "training.warmup_steps": ("-1", "9" * 400),
    "training.max_steps": ("0", "9" * 400),
    "training.weight_decay": ("-1", "1e38"),
    "training.clip_norm": ("0", "1e-320", "1e38"),
    "training.lora_rank": ("0", "4097"),
    "training.lora_alpha": ("0", "1e30"),
    "training.evaluate_every": ("0", "9" * 400),
    "training.checkpoint_every": ("0", "9" * 400),
    "training.keep": ("0", "9" * 400),
    "training.seed": ("-1", "2147483648", "18446744073709551616"),
    "evaluation.geometry_every": ("0", "9" * 400),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in BEYOND for value in BEYOND[key]]
)
def test_a_number_that_cannot_make_sense_is_refused_with_its_range(key, value):
    with pytest.raises(UserError, match=f"^config: {key}: expected .* received ") as e:
        parse_config(with_value(key, json.loads(value)))
    assert "\n" not in str(e.value)


def test_every_number_of_the_config_has_a_range():
    flat = parse_config(MINIMAL | {"training": {"clip_norm": 1.0}}).flat()
    numbers = {k for k, v in flat.items() if type(v) in (int, float)}
    assert numbers <= BEYOND.keys() <= flat.keys()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("key", ["training.learning_rate", "objective.mlm_weight"])
def test_nan_and_infinity_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key}: expected a finite number"):
        parse_config(with_value(key, json.loads(value)))


def with_value(key, value):
    section, name = key.split(".")
    section_values = {**MINIMAL.get(section, {}), name: value}
    return {**MINIMAL, section: section_values}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"not valid JSON.*line 1"),
        ("[]", r"expected a JSON object"),
        ("{}", r"model is missing"),
        (
            '{"model": {}, "data": {"train": "t"}, "output_dir": "o"}',
            r"model\.preset is",
        ),
    ],
)
def test_a_broken_file_is_told_with_its_name(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(path)
    assert path in str(error.value)


def test_a_missing_file_is_told():
    with pytest.raises(UserError, match=r"cannot read nowhere\.json"):
        load_config("nowhere.json")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=str)
def test_the_configs_that_come_along_are_valid_and_name_known_presets(path):
    config = load_config(str(path))
    assert config.model.preset in (MINILM, *keras_hub.models.Backbone.presets)


@pytest.mark.parametrize(
    ("name", "batch_size", "learning_rate", "epochs", "head_in_inference"),
    [
        ("unsup", 64, 3e-5, 1, False),
        ("unsup-large", 64, 1e-5, 1, False),
        ("sup", 512, 5e-5, 3, True),
        ("sup-large", 512, 1e-5, 3, True),
        ("unsup-roberta", 512, 1e-5, 1, False),
        ("unsup-roberta-large", 512, 3e-5, 1, False),
        ("sup-roberta", 512, 5e-5, 3, True),
        ("sup-roberta-large", 512, 1e-5, 3, True),
    ],
)
def test_the_papers_runs_have_the_papers_numbers(
    name, batch_size, learning_rate, epochs, head_in_inference
):
    config = load_config(str(ROOT / "configs" / f"{name}.json"))
    training = config.training
    assert (training.batch_size, training.learning_rate) == (batch_size, learning_rate)
    assert (training.epochs, training.weight_decay) == (epochs, 0)
    assert config.model.head_in_inference is head_in_inference
    assert config.objective.temperature == 0.05


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"objective": {"kind": "next_sentence"}, "data": {"augmentation": "crop"}},
            "^config: data.augmentation: expected none with .*next_sentence",
        ),
        (
            {"objective": {"same_mask": True}, "data": {"augmentation": "crop"}},
            "^config: objective.same_mask: .* data.augmentation none",
        ),
        (
            {"objective": {"same_mask": True}, "model": {"encoders": "dual"}},
            "^config: objective.same_mask: .* model.encoders shared",
        ),
        (
            {"objective": {"mlm_weight": 0.1}, "model": {"encoders": "dual"}},
            "^config: objective.mlm_weight: expected 0 with model.encoders dual",
        ),
        (
            {"evaluation": {"geometry_every": 10}},
            "^config: evaluation.geometry_every: .* data.evaluation is null",
        ),
    ],
)
def test_keys_that_exclude_each_other_are_told(values, message):
    config = {
        **values,
        "model": {"preset": "p", **values.get("model", {})},
        "data": {"train": "t.txt", **values.get("data", {})},
        "output_dir": "o",
    }
    with pytest.raises(UserError, match=message):
        parse_config(config)


def test_xla_with_a_masked_language_model_is_refused(write):
    both = {"objective": {"mlm_weight": 0.1}, "training": {"compile": "xla"}}
    with pytest.raises(UserError, match="training.compile: .* expected auto or none"):
        load_config(write({**MINIMAL, **both}))


def test_a_run_of_an_older_version_keeps_what_it_did_without_a_key(write):
    older = json.loads(load_config(write(MINIMAL)).to_json())
    del older["objective"]["mask_duplicates"]
    begun = load_begun(write(older))
    assert begun.objective.mask_duplicates is False
    given = load_config(write(MINIMAL))
    assert given.objective.mask_duplicates is True
    assert as_begun(given, begun) == begun
    # Once written out, and by its own file.
    begun = load_begun(write(begun.to_json()))
    assert as_begun(given, begun) == begun
    assert as_begun(load_config(write(older)), begun) == begun
    # What is asked for is another run.
    asked = load_config(write(MINIMAL), ["objective.mask_duplicates=true"])
    assert as_begun(asked, begun) == asked
