"""The recipes of `docs/vector_stores.md`, run as they stand there."""

import json
import re
import shlex

import numpy as np
import pytest
from support.models import ROOT
from support.postgres import postgres, programs

from simcse_tf import SimCSE
from simcse_tf.datasets import grammar
from simcse_tf.encode import main
from simcse_tf.quantization import encode_binary, hamming_distance
from simcse_tf.search.exact import top_k

pytestmark = pytest.mark.slow

SECTIONS = dict(
    re.findall(
        r"^##? (.+?)\n(.*?)(?=^## |\Z)",
        (ROOT / "docs" / "vector_stores.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)


def run(heading, names):
    """Runs a section's commands and Python; what it leaves is in `names`."""
    blocks = re.findall(
        r"^```(bash|python)\n(.*?)^```$", SECTIONS[heading], re.S | re.M
    )
    assert blocks, heading
    for language, code in blocks:
        if language == "python":
            exec(code, names)
            continue
        command, flag, module, *arguments = shlex.split(code.replace("\\\n", " "))
        assert [command, flag, module] == ["python", "-m", "simcse_tf.encode"]
        main(arguments)
    return names


@pytest.fixture(scope="module")
def records():
    sentences = dict.fromkeys(text for row in grammar.triplets(60) for text in row)
    return [
        {"id": f"s{n}", "text": text, "stars": n % 6, "lang": "de" if n % 3 else "en"}
        for n, text in enumerate(sentences)
    ]


@pytest.fixture(scope="module")
def start(tmp_path_factory, minilm, records):
    """What the page begins with: a file, the model, and the query of a sentence."""
    place = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TF_NUM_INTRAOP_THREADS", "1")
        patch.setattr(SimCSE, "from_preset", lambda *args, **kwargs: minilm)
        with open("sentences.jsonl", "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        names = run("Vector stores", {})
        run("A query", names)
        yield names


@pytest.fixture(scope="module")
def by_hand(start):
    return run("faiss by hand", dict(start))


@pytest.fixture(scope="module")
def nearest(by_hand, records):
    """The ids and cosines that exact search finds."""
    numbers, cosines = top_k(by_hand["query"][None], by_hand["rows"], 10)
    # A tie would leave the order to the store.
    assert (np.diff(cosines[0]) < -1e-5).all()
    return [records[number]["id"] for number in numbers[0]], cosines[0]


@pytest.fixture(scope="module")
def database():
    programs()
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def in_postgres(start, database):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database)
        names = run("PostgreSQL with pgvector", dict(start))
    yield names
    names["connection"].close()


def test_pgvector_finds_what_exact_search_finds(in_postgres, nearest, records):
    ids, cosines = nearest
    texts = {record["id"]: record["text"] for record in records}
    for hits in (in_postgres["hits"], in_postgres["bit_hits"]):
        assert [(id, text) for id, text, _ in hits] == [(id, texts[id]) for id in ids]
        np.testing.assert_allclose([hit[2] for hit in hits], cosines, atol=2e-6)
    # Sixteen bits may swap what is nearly as near.
    assert len({id for id, _ in in_postgres["half_hits"]} & {*ids}) >= 9


def test_pgvector_holds_the_rows_and_bits_of_encode(in_postgres, by_hand, records):
    execute = in_postgres["connection"].execute
    texts = dict(execute("SELECT id, embedding::text FROM sentences").fetchall())
    stored = {id: np.array(json.loads(text), np.float32) for id, text in texts.items()}
    ids = [record["id"] for record in records]
    rows = np.stack([stored[id] for id in ids])
    assert rows.tobytes() == np.ascontiguousarray(by_hand["rows"]).tobytes()
    distances = execute(
        "SELECT id, bits.embedding <~> (SELECT embedding FROM bits WHERE id = 's0') "
        "FROM bits"
    )
    bits = encode_binary(rows)
    expected = hamming_distance(bits, bits[:1])
    assert dict(distances.fetchall()) == dict(zip(ids, expected.tolist(), strict=True))


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ("embedding <=> '{query}'::vector", "sentences_embedding_idx"),
        (
            "embedding::halfvec({dim}) <=> '{query}'::halfvec({dim})",
            "sentences_embedding_idx1",
        ),
    ],
    ids=["vector", "halfvec"],
)
def test_pgvector_can_use_the_indexes(in_postgres, nearest, order, index):
    connection, query = in_postgres["connection"], in_postgres["query"].tolist()
    order = order.format(query=query, dim=len(query))
    with connection.transaction():
        # So few rows it would read one by one.
        connection.execute("SET LOCAL enable_seqscan = off")
        search = f"SELECT id FROM sentences ORDER BY {order} LIMIT 10"
        plan = " ".join(row[0] for row in connection.execute(f"EXPLAIN {search}"))
        found = [id for (id,) in connection.execute(search)]
    assert re.search(rf"Index Scan using {index} ", plan)
    assert len({*found} & {*nearest[0]}) >= 9


# Lance says what it will change one day.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lancedb_finds_what_exact_search_finds(start, nearest):
    pytest.importorskip("lancedb", reason="no LanceDB: pip install simcse-tf[dev]")
    names = run("LanceDB", dict(start))
    ids, cosines = nearest
    for hits in (names["hits"], names["index_hits"]):
        assert [hit["id"] for hit in hits] == ids
    np.testing.assert_allclose(names["cosines"], cosines, atol=2e-6)
    assert names["table"].schema.metadata == names["file"].schema_arrow.metadata
    search = names["table"].search(start["query"], vector_column_name="embedding")
    some = search.where("stars >= 4", prefilter=True).limit(5).to_list()
    assert len(some) == 5
    assert min(hit["stars"] for hit in some) >= 4


def test_faiss_finds_what_exact_search_finds(by_hand, nearest, records):
    ids, cosines = nearest
    assert [records[number]["id"] for number in by_hand["numbers"][0]] == ids
    np.testing.assert_allclose(by_hand["cosines"][0], cosines, atol=2e-6)


def test_vertex_ais_rules_hold(start, by_hand, records):
    run("Vertex AI Vector Search", start)
    with open("batch/vectors.json", encoding="utf-8", newline="\n") as file:
        lines = file.read().split("\n")
    assert lines.pop() == ""
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [row["id"] for row in rows] == [record["id"] for record in records]
    assert len({row["id"] for row in rows}) == len(rows)
    found = np.array([row["embedding"] for row in rows], np.float32)
    assert found.tobytes() == np.ascontiguousarray(by_hand["rows"]).tobytes()
    for row, record in zip(rows, records, strict=True):
        assert set(row) == {"id", "embedding", "restricts", "numeric_restricts"}
        assert all(type(number) in (int, float) for number in row["embedding"])
        assert row["restricts"] == [{"namespace": "lang", "allow": [record["lang"]]}]
        assert row["numeric_restricts"] == [
            {"namespace": "stars", "value_int": record["stars"]}
        ]
