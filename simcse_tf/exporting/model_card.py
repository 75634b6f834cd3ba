"""The model card of an export: what the model is, how it was trained, how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simcse_tf.evaluation.sts_files import TASKS
from simcse_tf.exporting.manifest import TrainingRecord

HUB_SCHEME = "hf://"

_TAGS = (
    "sentence-transformers",
    "sentence-similarity",
    "feature-extraction",
    "text-embeddings-inference",
)
_TRAINING_TAG = "simcse"
# What the table of a run shows, by the keys of its config.
_SHOWN_SETTINGS = (
    ("objective", "kind"),
    ("objective", "temperature"),
    ("objective", "hard_negative_weight"),
    ("objective", "mlm_weight"),
    ("data", "augmentation"),
    ("model", "dropout"),
    ("model", "max_length"),
    ("training", "epochs"),
    ("training", "max_steps"),
    ("training", "batch_size"),
    ("training", "learning_rate"),
    ("training", "warmup_steps"),
    ("training", "precision"),
    ("training", "seed"),
)
# The average is shown, and is no data set.
_AVERAGE = "avg"
_OWN = (
    " Other names are data of the trainer's own: pairs by the same measure, triplets "
    "by the share in which the positive is nearer, retrieval sets by the metric named."
)
_STEP = "step"

_CITATION = """\
@inproceedings{gao-etal-2021-simcse,
  author    = {Tianyu Gao and Xingcheng Yao and Danqi Chen},
  title     = {{SimCSE}: Simple Contrastive Learning of Sentence Embeddings},
  booktitle = {Empirical Methods in Natural Language Processing (EMNLP)},
  year      = {2021},
  url       = {https://arxiv.org/abs/2104.08821}
}"""


@dataclass(frozen=True)
class CardFacts:
    """What a card says of a model, beside its training.

    Attributes:
        name: string. What users load it by: a directory, or `ORG/NAME` on the hub.
        family: string. The kind of its transformer, such as `bert`.
        pooling: string.
        layers: strings. Its dense layers, in words.
        max_length: int. Tokens at which a text is cut.
        dimensions: int. How many an embedding has.
        parameters: int. How many weights it has.
        prompts: The prompts by name.
        default_prompt: Optional string. The name of the one before every text.
        special_tokens: Optional string. What is to be said of them.

    Example:

    ```python
    CardFacts("org/mine", "bert", "avg", (), 32, 384, 22_713_216, {}, None)
    ```
    """

    name: str
    family: str
    pooling: str
    layers: Sequence[str]
    max_length: int
    dimensions: int
    parameters: int
    prompts: Mapping[str, str]
    default_prompt: str | None
    special_tokens: str | None = None


def model_card(
    facts: CardFacts, training: TrainingRecord | None, source: str | None = None
) -> str:
    """The text of a `README.md` with the front matter that the hub reads.

    Args:
        facts: What the model is.
        training: Optional. The run that it comes from.
        source: Optional string. The MODEL argument that it was loaded from.

    Returns:
        string, Markdown.

    Example:

    ```python
    print(model_card(facts, training_record("runs/sup/best")))
    ```
    """
    title = facts.name.rpartition("/")[2]
    origin = "trained with SimCSE" if training else "exported by simcse_tf"
    sections = [
        _front_matter(title, training, source),
        f"# {title}",
        f"A sentence encoder {origin}. It maps a text to a vector of unit length, in "
        f"{facts.dimensions} dimensions, so that texts of similar meaning have a large "
        "cosine.",
        _table(("model", ""), _model_rows(facts)),
        "## Use",
        _usage(facts),
        *(_training_sections(training) if training else []),
        "## Citation",
        "The method that simcse_tf implements:",
        f"```bibtex\n{_CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def base_model(preset: str) -> str:
    """What a training began with, without the directories of this machine.

    Example:

    ```python
    base_model("hf://google-bert/bert-base-uncased")  # "google-bert/bert-base-uncased"
    base_model("/home/me/models/mine")  # "mine"
    ```
    """
    if preset.startswith(HUB_SCHEME):
        return preset.removeprefix(HUB_SCHEME)
    if "://" in preset or not Path(preset).is_dir():
        return preset
    return Path(preset).resolve().name


def _front_matter(
    title: str, training: TrainingRecord | None, source: str | None
) -> str:
    # JSON's strings, lists and numbers are YAML's.
    tags = [*_TAGS, _TRAINING_TAG] if training else _TAGS
    lines = [
        f"tags: {json.dumps(tags)}",
        "pipeline_tag: sentence-similarity",
        "library_name: sentence-transformers",
    ]
    preset = training.config["model"]["preset"] if training else source or ""
    if preset.startswith(HUB_SCHEME):
        lines.append(f"base_model: {json.dumps(base_model(preset))}")
    if training and (results := list(map(_result, _test_scores(training).items()))):
        lines += ["metrics: [spearman_cosine]", "model-index:"]
        lines += [f"- name: {json.dumps(title)}", f"  results: {json.dumps(results)}"]
    return "\n".join(["---", *lines, "---"])


def _result(score: tuple[str, float]) -> dict[str, Any]:
    task, value = score
    return {
        "task": {"type": "semantic-similarity", "name": "Semantic Similarity"},
        "dataset": {"type": task, "name": task, "split": "test"},
        "metrics": [
            {
                "type": "spearman_cosine",
                "name": "Spearman Cosine",
                "value": round(value / 100, 4),
            }
        ],
    }


def _test_scores(training: TrainingRecord) -> dict[str, float]:
    scores = training.test or {}
    # What the trainer's own data give has names that mean nothing elsewhere.
    return {task: value for task, value in scores.items() if task in TASKS}


def _model_rows(facts: CardFacts) -> list[tuple[str, Any]]:
    rows = [
        ("transformer", facts.family),
        ("pooling", ", then ".join([facts.pooling, *facts.layers])),
        ("dimensions", facts.dimensions),
        ("longest text", f"{facts.max_length} tokens; a longer one is cut"),
        ("similarity", "cosine; embeddings have unit length"),
        ("parameters", f"{facts.parameters:,}"),
    ]
    if facts.special_tokens:
        rows.append(
            ("special tokens in a text", facts.special_tokens.replace("<", "&lt;"))
        )
    for name, prompt in facts.prompts.items():
        always = ", before every text" if name == facts.default_prompt else ""
        if prompt:
            rows.append((f"prompt `{name}`", f"{json.dumps(prompt)}{always}"))
    return rows


def _usage(facts: CardFacts) -> str:
    asymmetric = facts.prompts.get("query") != facts.prompts.get("document")
    encode = (
        'queries = model.encode_query(["Who plays the guitar?"])\n'
        'documents = model.encode_document(["A man is playing a guitar."])\n'
        "model.similarity(queries, documents)"
        if asymmetric
        else 'embeddings = model.encode(["A man plays the guitar.", "Two dogs run."])\n'
        "model.similarity(embeddings, embeddings)"
    )
    name = json.dumps(facts.name)
    handle = json.dumps(_handle(facts.name))
    return f"""\
With [sentence-transformers](https://sbert.net):

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({name})
{encode}
```

As a server, with text-embeddings-inference:

```bash
text-embeddings-router --model-id {facts.name} --port 8080
curl localhost:8080/embed -H 'Content-Type: application/json' \\
  -d '{{"inputs": "A man plays the guitar."}}'
```

With simcse_tf, in TensorFlow:

```python
from simcse_tf import SimCSE

model = SimCSE.from_preset({handle})
model.predict(["A man plays the guitar."])  # float32, (1, {facts.dimensions})
```"""


def _handle(name: str) -> str:
    # ORG/NAME is on the hub; anything else is a directory.
    return name if Path(name).is_dir() or name.count("/") != 1 else HUB_SCHEME + name


def _training_sections(training: TrainingRecord) -> Iterable[str]:
    config = training.config
    rows: list[tuple[str, Any]] = [
        ("began with", base_model(config["model"]["preset"])),
        ("data", training.data),
    ]
    for section, key in _SHOWN_SETTINGS:
        value = config.get(section, {}).get(key)
        if value is not None:
            name = section if key == "kind" else key
            rows.append((name.replace("_", " "), value))
    yield "## Training"
    yield _table(("setting", ""), rows)
    scores = {
        "test": training.test or {},
        "dev": {k: v for k, v in (training.dev or {}).items() if k != _STEP},
    }
    found = [
        (task, split, f"{value:.2f}")
        for split, values in scores.items()
        for task, value in values.items()
    ]
    if found:
        yield "## Scores"
        yield (
            "Spearman's correlation of the cosine with human scores, times 100, of "
            "texts that were not cut."
            + ("" if {task for task, _, _ in found} <= {*TASKS, _AVERAGE} else _OWN)
        )
        yield _table(("task", "split", "score"), found)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
