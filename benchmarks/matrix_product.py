"""The machine's limit: the best rate of a large matrix product.

    python benchmarks/matrix_product.py --precision bfloat16

Of a product of the size that MiniLM's feed-forward layer has, by TensorFlow and (with
`--torch`, in the peers' environment) by PyTorch, in GFLOP/s. Every line that it reads
asks for another measurement.
"""

import argparse
import time
from collections.abc import Callable

from rounds import answer

SHAPES = ((6144, 384, 1536), (2048, 1536, 1536))
REPEATS = 20


def best_rate(product: Callable[[int, int, int], Callable[[], object]]) -> float:
    """GFLOP/s of the fastest shape."""
    best = 0.0
    for n, k, m in SHAPES:
        multiply = product(n, k, m)
        multiply()
        begun = time.perf_counter()
        for _ in range(REPEATS):
            multiply()
        seconds = (time.perf_counter() - begun) / REPEATS
        best = max(best, 2 * n * k * m / seconds / 1e9)
    return best


def torch_product(precision: str) -> Callable[[int, int, int], Callable[[], object]]:
    import torch

    dtype = getattr(torch, precision)

    def product(n: int, k: int, m: int) -> Callable[[], object]:
        one, other = torch.randn(n, k).to(dtype), torch.randn(k, m).to(dtype)
        return lambda: torch.matmul(one, other)

    return product


def tensorflow_product(
    precision: str,
) -> Callable[[int, int, int], Callable[[], object]]:
    import tensorflow as tf

    def product(n: int, k: int, m: int) -> Callable[[], object]:
        one = tf.cast(tf.random.normal((n, k)), precision)
        other = tf.constant(tf.cast(tf.random.normal((k, m)), precision).numpy())
        multiply = tf.function(lambda one: tf.matmul(one, other)[0, 0])
        return lambda: multiply(one).numpy()

    return product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--torch", action="store_true")
    arguments = parser.parse_args()
    make = torch_product if arguments.torch else tensorflow_product
    product = make(arguments.precision)
    answer(lambda: {"rate": best_rate(product)})


if __name__ == "__main__":
    main()
