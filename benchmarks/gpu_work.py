"""Our contestants of `gpu.py`: `gpu_work.py WORK ARGUMENT...`."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rounds

from simcse_tf.core.compilation_cache import keep_compiled

LENGTH, UNTIMED, WARM_UP = 32, 3, 20
DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def load(model: str, precision: str, **settings: Any) -> Any:
    from simcse_tf import SimCSE

    return SimCSE.from_preset(model, dtype=DTYPES[precision], **settings)


def train(
    model: str,
    data: str,
    precision: str,
    batch_size: str,
    steps: str,
    how: str,
    trace: str = "",
    strategy: str = "none",
) -> None:
    import keras
    import numpy as np

    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source
    from simcse_tf.distributed.strategy import strategy_of
    from simcse_tf.training.optimizer import adam

    class Clock(keras.callbacks.Callback):
        """Times the steps of a `fit` but the first, in which it opens its input."""

        def on_train_batch_end(self, batch: int, logs: dict) -> None:
            if batch + 1 == UNTIMED:
                self._finish()
                self.begun = time.perf_counter()
            self.loss = logs["loss"]

        def on_train_end(self, logs: Any = None) -> None:
            self._finish()
            self.seconds = time.perf_counter() - self.begun

        def _finish(self) -> None:
            """Copies a variable from the GPU, after all that is under way."""
            variables = self.model.trainable_variables
            min(variables, key=lambda each: np.prod(each.shape)).numpy()

    keras.utils.set_random_seed(1)
    replicas = strategy_of(strategy)
    with replicas.scope():
        trained = load(
            model,
            precision,
            pooling="cls",
            max_length=LENGTH,
            dropout=0.1,
            static_shapes=True,
        )
        trained.compile(adam(5e-5), jit_compile=how == "compiled")
    source, done = open_source(data), 0
    size = int(batch_size) * replicas.num_replicas_in_sync

    def work(count: int) -> dict:
        nonlocal done
        clock = Clock()
        end = done + UNTIMED + count
        batches = training_batches(source, size, done, end)
        done = end
        trained.fit(batches, verbose=0, callbacks=[clock])
        return {
            "rate": count * size / clock.seconds,
            "ms": 1e3 * clock.seconds / count,
            "loss": float(clock.loss),
        }

    trained.fit(training_batches(source, size, 0, 1), verbose=0)
    first = rounds.seconds_since_start()
    work(WARM_UP)
    if trace:
        rounds.answer(lambda: traced(work, int(steps), Path(trace)))
    else:
        rounds.answer(lambda: {**work(int(steps)), "first_step_s": first})


def traced(work: Callable[[int], dict], steps: int, directory: Path) -> dict:
    """Kernels and copies of a step, and the time in which the GPU is busy."""
    import gpu_trace
    import tensorflow as tf

    with tf.profiler.experimental.Profile(str(directory)):
        work(steps - UNTIMED)
    traces = directory.rglob("*.xplane.pb")
    newest = max(traces, key=lambda path: path.stat().st_mtime)
    return gpu_trace.summary(newest, steps)


def texts_of(source: str) -> list[str]:
    text = Path(source).read_text("utf-8")
    return [line for line in text.split("\n") if line.strip()]


def encode(model: str, source: str, precision: str, how: str, out: str) -> None:
    import numpy as np

    from simcse_tf.model.bulk import encode

    loaded, texts = load(model, precision, pooling="avg"), texts_of(source)
    if how == "compiled":
        loaded.static_shapes = True

    def work() -> dict:
        begun = time.perf_counter()
        rows = encode(loaded, texts, jit_compile=how == "compiled")
        seconds = time.perf_counter() - begun
        np.save(out, rows)
        return {"rate": len(texts) / seconds}

    first = work()["rate"]
    rounds.answer(lambda: {**work(), "first_rate": first})


def latency(model: str, source: str, precision: str, sizes: str, out: str) -> None:
    """Of an exported graph, in process."""
    import tensorflow as tf

    from simcse_tf.exporting.saved_model import export

    dtype = {"float32": "float32", "bfloat16": "bfloat16"}[precision]
    from simcse_tf import SimCSE

    version = export(SimCSE.from_preset(model, pooling="avg", dtype=dtype), out)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    texts = texts_of(source)

    def milliseconds(size: int) -> float:
        times = []
        for start in range(0, 20 * size, size):
            part = [texts[(start + each) % len(texts)] for each in range(size)]
            begun = time.perf_counter()
            answer(text=tf.constant(part))["embedding"].numpy()
            times.append(1e3 * (time.perf_counter() - begun))
        return statistics.median(times)

    def work() -> dict:
        return {f"ms_{size}": milliseconds(int(size)) for size in sizes.split(",")}

    work()
    rounds.answer(work)


def races(model: str, source: str, precision: str) -> None:
    """Encodes again and again on 16 threads; says whether rows were ever others."""
    import numpy as np

    from simcse_tf.model import bulk

    loaded, texts = load(model, precision, pooling="avg"), texts_of(source)[:4000]

    def rows(threads: int) -> Any:
        bulk.GPU_BATCHES = bulk.CORES = threads
        return bulk.encode(loaded, texts, batch_size=64)

    expected = rows(1)
    equal = [bool(np.array_equal(rows(16), expected)) for _ in range(20)]
    rounds.answer(lambda: {"runs": len(equal), "equal": sum(equal)})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    keep_compiled()
    name, *rest = sys.argv[1:]
    works = {"train": train, "encode": encode, "latency": latency, "races": races}
    works[name](*rest)
