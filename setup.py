"""Packaging. The versions that the tests run with are pinned in constraints.txt."""

from setuptools import find_packages, setup

# The converter of `experiments.pretrained`, and the reference that it is checked by.
PRETRAINED = ["accelerate", "gguf", "torch", "transformers"]

setup(
    name="negot_jax",
    version="0.1.0",
    description="Training language models to bargain, by reinforcement learning with verifiable rewards, in JAX",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["negot_jax*", "experiments*", "launch*"]),
    package_data={"negot_jax.catalog": ["checksums.tsv"], "negot_jax.evaluation": ["page.html"]},
    install_requires=[
        "absl-py",
        "array_record",
        "flax",
        "importlib_resources",  # Imported by tensorflow-datasets, which does not declare it.
        "jax",
        "jinja2",
        "matplotlib",
        "ml-collections",
        "numpy",
        "openai",
        "optax",
        "orbax-checkpoint",
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
        "test": [
            *PRETRAINED,
            "fastapi",  # With uvicorn: `transformers serve`, as an endpoint to play against.
            "hypothesis",
            "libtpu",  # The compiler that `launch.compile_check` uses.
            "mistral-common",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tensorboard",
            "uvicorn",
        ],
    },
)
