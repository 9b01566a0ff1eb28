"""Fits to a file larger than the memory that they may take."""

import subprocess
import sys

import pytest

# So that the file need not be large, neither is the window of rows that is shuffled,
# nor are the blocks of rows that are computed at once.
WINDOW = 2**22
BLOCK_ENTRIES = 2**19
LIMIT = 2**27
FILE_SIZE = 3 * 2**26
N_FEATURES = 1024

# The kernel holds the limit: what would be private memory beyond it can't be had. Pages
# of the file, which it can drop at any time, don't count. The first fit and transform
# load libraries and start threads.
CODE = """
import os
import resource
import sys
import warnings

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine import rows
from skcae.sampling import sample

path = sys.argv[1]
n_features, limit, *sizes = map(int, sys.argv[2:])
rows._WINDOW_BYTES, rows._BLOCK_ENTRIES = sizes
torch.set_num_threads(1)
warnings.simplefilter("ignore")


def make(**parameters):
    return ContractiveAutoencoderTransformer(
        2, solver="adam", batch_size=512, max_iter=1, random_state=0, **parameters
    )


def classify(model, X, y):
    classifier = ContractiveAutoencoderClassifier(
        FrozenEstimator(model),
        solver="adam",
        batch_size=512,
        max_iter=1,
        early_stopping=True,
        random_state=0,
    )
    assert len(classifier.fit(X, y).predict(X)) == len(X)


small = np.random.default_rng(0).random((600, n_features), dtype=np.float32)
model = make(early_stopping=True).fit(small)
model.transform(small)
classify(model, small, np.arange(600) % 2)

with open("/proc/self/status") as lines:
    (used,) = [int(line.split()[1]) * 1024 for line in lines if "VmData" in line]
resource.setrlimit(resource.RLIMIT_DATA, (used + limit,) * 2)

for dtype in (np.uint8, ">f4", np.float32):
    X = np.memmap(path, dtype, mode="r").reshape(-1, n_features)
    model = make(early_stopping=True).fit(X)
    assert model.transform(X).shape == (len(X), 2)
    labels = np.arange(len(X)) % 3
    if dtype != np.uint8:
        labels[labels == 2] = -1
    classify(model, X, labels)
for view in (X[:, 1:], X.reshape(n_features, -1).T):
    model = make().fit(view)
    assert model.transform(view).shape == (len(view), 2)
# So many rows that there is no memory for the number of each, as there has to be for
# those that early stopping leaves.
narrow = np.memmap(path, np.uint8, mode="r")[: 2**27].reshape(-1, 8)
make().set_params(batch_size=2**16).fit(narrow)
make().fit(X)
make().partial_fit(X)
model.score(X)
# Where the sum of float16 is infinite, each number has to be looked at. A byte for each
# is too much where there are twice as many.
os.truncate(path, 2 * X.nbytes)
half = np.memmap(path, np.float16, mode="r+").reshape(-1, n_features)
half[0, :2] = np.finfo(np.float16).max
assert np.isfinite(model.transform(half)).all()
assert sample(model, half, 5, random_state=0).shape == (5, n_features)
try:
    np.array(X)
    sys.exit("there was no limit")
except MemoryError:
    pass
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limit is one of Linux"
)
def test_memory_is_bounded(tmp_path):
    path = tmp_path / "X"
    with path.open("wb") as file:
        file.truncate(FILE_SIZE)  # zeros that take no space on the disk
    arguments = map(str, [path, N_FEATURES, LIMIT, WINDOW, BLOCK_ENTRIES])
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
