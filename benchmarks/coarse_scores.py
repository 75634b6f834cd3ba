"""Ways to score all rows of an index with TensorFlow's own operations, on a CPU.

    python benchmarks/coarse_scores.py
    TF_ENABLE_ONEDNN_OPTS=0 python benchmarks/coarse_scores.py

Each multiplies queries with 8,192 rows at a time. The table has the CPU time of a scan
beside that of float32 rows: it depends less than seconds on what else the machine does.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

BLOCK = 8192
QUERIES = (1, 8, 64)
ROUNDS = 5


def in_steps(queries: tf.Tensor) -> tf.Tensor:
    """Queries in steps of 1/127 of their largest component."""
    return tf.round(queries / tf.reduce_max(tf.abs(queries)) * 127)


def unsigned(queries: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(in_steps(queries) + 128, tf.uint8), tf.quint8)


def quantized(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.QuantizedMatMul(
        a=unsigned(queries),
        b=tf.bitcast(block, tf.quint8),
        min_a=-1.0,
        max_a=1.0,
        min_b=-1.0,
        max_b=1.0,
        transpose_b=True,
    )[0]


def quantized_with_bias(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    # oneDNN's kernel takes no transposed matrix.
    return tf.raw_ops.QuantizedMatMulWithBias(
        a=unsigned(queries),
        b=tf.bitcast(block, tf.qint8),
        bias=tf.zeros([BLOCK]),
        min_a=-1.0,
        max_a=1.0,
        min_b=-1.0,
        max_b=1.0,
        Toutput=tf.qint32,
        input_quant_mode="MIN_FIRST",
    )[0]


def decoded(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    # As `simcse_tf.exporting.exact_search` does.
    return tf.matmul(tf.cast(block, tf.float32), queries, transpose_b=True)


WAYS = {
    "float32 rows": ("float32", decoded),
    "int8 rows, decoded block by block": ("int8", decoded),
    "bfloat16 rows, decoded block by block": ("bfloat16", decoded),
    "bfloat16 products": (
        "bfloat16",
        lambda queries, block: tf.matmul(
            tf.cast(queries, tf.bfloat16), block, transpose_b=True
        ),
    ),
    "int8 products, int32 sums": (
        "int8",
        lambda queries, block: tf.matmul(
            tf.cast(in_steps(queries), tf.int8),
            block,
            transpose_b=True,
            output_type=tf.int32,
        ),
    ),
    "QuantizedMatMul": ("uint8", quantized),
    "QuantizedMatMulWithBias": ("int8 columns", quantized_with_bias),
}


def stored(kind: str, rows: np.ndarray) -> tf.Variable:
    """The rows as blocks, which are read without a copy."""
    blocks = rows.reshape(-1, BLOCK, rows.shape[1])
    steps = np.rint(blocks / np.abs(blocks).max() * 127)
    arrays = {
        "float32": lambda: blocks,
        "bfloat16": lambda: tf.cast(blocks, tf.bfloat16),
        "int8": lambda: steps.astype(np.int8),
        "uint8": lambda: (steps + 128).astype(np.uint8),
        "int8 columns": lambda: steps.transpose(0, 2, 1).astype(np.int8),
    }
    return tf.Variable(arrays[kind]())


def cpu_seconds(kind: str, score, rows: np.ndarray, queries: np.ndarray) -> float:
    """The median of the scans' CPU times."""
    blocks = stored(kind, rows)

    @tf.function
    def scan(queries):
        best = tf.constant(0.0)
        for block in tf.unstack(blocks.read_value()):
            # Something reads the scores, but no more than that.
            scores = score(queries, block)
            if scores.dtype == tf.qint32:
                scores = tf.bitcast(scores, tf.int32)
            best += tf.cast(scores[0, 0], tf.float32)
        return best

    queries = tf.constant(queries)
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.process_time()
        scan(queries)
        times.append(time.process_time() - begun)
    return float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8 * BLOCK)
    parser.add_argument("--dim", type=int, default=384)
    arguments = parser.parse_args()
    # One block after the other, as in the export: a decoded one is still in the cache.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    rows = random.standard_normal((arguments.rows, arguments.dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    reference: list[float] = []
    for name, (kind, score) in WAYS.items():
        try:
            times = [cpu_seconds(kind, score, rows, rows[:n]) for n in QUERIES]
        except (tf.errors.OpError, ValueError) as error:
            print(f"{name:40} {type(error).__name__}")
            continue
        reference = reference or times
        ratios = [f"{t / r:5.1f}" for t, r in zip(times, reference, strict=True)]
        print(f"{name:40} {' '.join(ratios)}  ({1e3 * times[0]:.0f} ms)", flush=True)


if __name__ == "__main__":
    main()
