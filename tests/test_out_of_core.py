"""Fits to a file larger than the memory that they may take."""

import subprocess
import sys

import pytest

# The window of rows takes 256 MiB, reading and writing it some of the rest.
LIMIT = 2**29
FILE_SIZE = 3 * 2**29
N_FEATURES = 4096

# The kernel holds the limit: what would be private memory beyond it can't be had. Pages
# of the file, which it can drop at any time, don't count. The first fit and transform
# load libraries and start threads.
CODE = """
import resource
import sys
import warnings

import torch

from skcae import ContractiveAutoencoderTransformer

path, dtype, n_features, limit = sys.argv[1:]
n_features, limit = int(n_features), int(limit)
torch.set_num_threads(1)
warnings.simplefilter("ignore")


def make(**parameters):
    return ContractiveAutoencoderTransformer(
        2, solver="adam", batch_size=512, max_iter=1, random_state=0, **parameters
    )


small = np.random.default_rng(0).random((600, n_features)).astype(dtype)
make(early_stopping=True).fit(small).transform(small)

with open("/proc/self/status") as lines:
    (used,) = [int(line.split()[1]) * 1024 for line in lines if "VmData" in line]
resource.setrlimit(resource.RLIMIT_DATA, (used + limit,) * 2)
try:
    np.ones(limit + 2**26, dtype=np.uint8)
    sys.exit("there is no limit")
except MemoryError:
    pass

X = np.memmap(path, dtype, mode="r").reshape(-1, n_features)
METHOD
"""

METHODS = {
    "fit": "make().fit(X)",
    "fit with early stopping": "make(early_stopping=True).fit(X)",
    "partial_fit": "make().partial_fit(X)",
    "transform": "assert make().fit(small).transform(X).shape == (len(X), 2)",
    "score": "make().fit(small).score(X)",
}


def run(path, dtype, method):
    return subprocess.run(
        [
            sys.executable,
            "-c",
            CODE.replace("METHOD", method),
            *map(str, [path, dtype, N_FEATURES, LIMIT]),
        ],
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of zeros that takes no space on the disk."""
    path = tmp_path_factory.mktemp("data") / "X"
    with path.open("wb") as file:
        file.truncate(FILE_SIZE)
    return path


needs_limit = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limit is Linux's"
)


@needs_limit
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_memory_is_bounded(dtype, path):
    result = run(path, dtype, "\n".join(METHODS.values()))
    assert result.returncode == 0, result.stderr


@needs_limit
def test_the_limit_is_one(path):
    result = run(path, "float32", "make().fit(np.array(X))")
    assert "MemoryError" in result.stderr
