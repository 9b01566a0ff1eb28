"""Package metadata; the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "skcae" / "_version.py").read_text("utf-8")
).group(1)
PLOT = ["matplotlib>=3.8"]
ONNX = ["onnx>=1.19", "onnxruntime>=1.23", "skl2onnx>=1.20"]
TEST = [
    *PLOT,
    *ONNX,
    "dask[dataframe,distributed]>=2025.1",
    "hypothesis>=6.100",
    "numpydoc>=1.11",
    "pandas>=2.2",
    "polars>=1",
    "pyarrow>=14",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "rich>=13",
    "skops>=0.16",
]
DOCS = [
    *TEST,  # the examples are run
    "myst-parser>=4",
    "pydata-sphinx-theme>=0.16",
    "sphinx>=8.1",
    "sphinx-gallery>=0.18",
]

setup(
    name="skcae",
    version=VERSION,
    description="Contractive autoencoders for scikit-learn",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="BSD-3-Clause",
    license_files=["LICENSE"],
    packages=find_packages(include=["skcae", "skcae.*"]),
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.6",
        "threadpoolctl>=3.1",
        "torch>=2.4",
    ],
    extras_require={
        "bench": [
            *PLOT,
            "jax>=0.10",
            "keras>=3.15",
            "skorch>=1.4",
            "tensorflow-cpu>=2.21",
        ],
        "onnx": ONNX,
        "plot": PLOT,
        "test": TEST,
        "docs": DOCS,
        "dev": [*DOCS, "build>=1.2", "ruff>=0.17"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
