"""Packaging. The tests run with the versions of constraints.txt, and `make colab` with the lower bounds below."""

from setuptools import find_packages, setup

# The one place of the repository's address; notebooks, README and citation name the same, which a test checks.
URL = "https://github.com/OWNER/negot_jax"

# The converter of `experiments.pretrained`, and the reference that it is checked by.
PRETRAINED = ["accelerate", "gguf", "torch", "transformers"]
# The programs that the benchmarks stand beside.
PEERS = ["datasets", "peft", "torch", "transformers", "trl"]
TEST = [
    *PRETRAINED,
    "fastapi",  # With uvicorn: `transformers serve`, as an endpoint to play against.
    "hypothesis",
    "ipykernel",
    "mistral-common",
    "nbmake",
    "pytest",
    "pytest-xdist",
    "ruff",
    "tensorboard",
    "uvicorn",
]

setup(
    name="negot_jax",
    version="0.1.0",
    description="Training language models to bargain, by reinforcement learning with verifiable rewards, in JAX",
    url=URL,
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["negot_jax*", "experiments*", "launch*"]),
    package_data={
        "launch": ["jobset.yaml"],
        "negot_jax.catalog": ["checksums.tsv"],
        "negot_jax.evaluation": ["page.html"],
    },
    install_requires=[
        "absl-py",
        "array_record",
        "flax>=0.11.2",
        "importlib_resources",  # Imported by tensorflow-datasets, which does not declare it.
        "jax>=0.7.2",
        "jinja2",
        "matplotlib",
        "ml-collections",
        "numpy>=2.1.3",
        "openai",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.4",
        "requests",
        "rich",
        "safetensors",
        "scipy",
        "sentencepiece",
        "tabulate",
        "tensorboardX",
        "tensorflow-datasets",
        "tokenizers",
        "tqdm",
    ],
    extras_require={
        "tpu": ["gcsfs", "jax[tpu]"],  # gcsfs for workdirs in a bucket.
        "pretrained": PRETRAINED,
        "test": TEST,
        "peers": PEERS,
        "slow": [*TEST, *PEERS, "libtpu"],  # libtpu: the compiler of `launch.compile_check`.
    },
)
