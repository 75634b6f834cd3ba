"""Two MTEB tasks on local data, run by the real mteb package: `MODEL STS_FILE`.

Prints the scores, and what they are by another way, as JSON.
"""

import csv
import json
import sys
import tempfile

from simcse_tf.integrations.mteb import MTEBEncoder

MODEL, STS_FILE = sys.argv[1:]
# Before mteb: the wrapper loads PyTorch and TensorFlow in an order that works.
model = MTEBEncoder(MODEL, name="tests/model")

import mteb  # noqa: E402
from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol  # noqa: E402

from simcse_tf.evaluation.correlation import spearman  # noqa: E402

with open(STS_FILE, encoding="utf-8", newline="") as file:
    ROWS = [row[4:7] for row in csv.reader(file, "excel-tab", quoting=csv.QUOTE_NONE)]
SCORES = [float(row[0]) for row in ROWS]
FIRST, SECOND = ([row[column] for row in ROWS] for column in (1, 2))


def metadata(name, kind, score):
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=score,
        dataset={"path": "local/data", "revision": "1"},
        description="Pairs of sentences of a local file.",
        reference=None,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation="",
    )


class Similarity(AbsTaskSTS):
    metadata = metadata("LocalSimilarity", "STS", "cosine_spearman")

    def load_data(self, *args, **kwargs):
        columns = {"sentence1": FIRST, "sentence2": SECOND, "score": SCORES}
        self.dataset = {"test": Dataset.from_dict(columns)}
        self.data_loaded = True


class Search(AbsTaskRetrieval):
    """Finds the second sentence of a pair by the first one."""

    metadata = metadata("LocalSearch", "Retrieval", "mrr_at_10")

    def load_data(self, *args, **kwargs):
        queries, documents = (
            [f"{side}{number}" for number in range(len(ROWS))] for side in "qd"
        )
        pairs = zip(queries, documents, strict=True)
        part = {
            "queries": Dataset.from_dict({"id": queries, "text": FIRST}),
            "corpus": Dataset.from_dict({"id": documents, "text": SECOND}),
            "relevant_docs": {query: {document: 1} for query, document in pairs},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": part}}
        self.data_loaded = True


def run(task):
    with tempfile.TemporaryDirectory() as folder:
        results = mteb.evaluate(
            model,
            task,
            cache=mteb.cache.ResultCache(folder),
            encode_kwargs={"batch_size": 16},
        )
    return results.task_results[0].get_score()


def embedded(texts, prompt):
    usual, model.model.prompt = model.model.prompt, prompt
    rows = model.model.predict(texts, verbose=0)
    model.model.prompt = usual
    return rows


def cosines_without_mteb():
    prompt = model.model.prompts["STS"]
    sides = [embedded(texts, prompt) for texts in (FIRST, SECOND)]
    return float(spearman((sides[0] * sides[1]).sum(axis=1), SCORES))


def reciprocal_rank_without_mteb():
    prompts = model.model.prompts
    queries = embedded(FIRST, prompts["Retrieval-query"])
    documents = embedded(SECOND, prompts["document"])
    cosines = queries @ documents.T
    ranks = (cosines > cosines.diagonal()[:, None]).sum(axis=1) + 1
    return float(((ranks <= 10) / ranks).mean())


meta = model.mteb_model_meta
print(
    json.dumps(
        {
            "conforms": isinstance(model, EncoderProtocol),
            "name": meta.name,
            "revision": meta.revision,
            "embed_dim": meta.embed_dim,
            "similarity": [run(Similarity()), cosines_without_mteb()],
            "search": [run(Search()), reciprocal_rank_without_mteb()],
        }
    )
)
