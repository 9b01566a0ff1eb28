"""
Larger than memory
==================

Rows that don't fit into memory are a file, of which training reads a window at a time.
`fit` takes a memory map of it, and `partial_fit` chunks from anywhere. The file here is
small, so that both can be compared with a fit of the array.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skcae import ContractiveAutoencoderTransformer

pixels = load_digits().data.astype(np.uint8)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "scaled.npy"

# %%
# The file is written and scaled block by block, as if no more fitted into memory.

scaled = np.lib.format.open_memmap(path, "w+", np.float32, pixels.shape)
for start in range(0, len(pixels), 500):
    block = slice(start, start + 500)
    scaled[block] = pixels[block].astype(np.float32) / 16
scaled.flush()

# %%
# A fit of the map, which finds out by itself when it has converged:

rows = np.load(path, mmap_mode="r")
mapped = ContractiveAutoencoderTransformer(random_state=0).fit(rows)
print(f"fit of a map: {mapped.n_iter_} epochs, objective {mapped.loss_curve_[-1]:.4f}")
in_memory = ContractiveAutoencoderTransformer(random_state=0).fit(np.array(rows))
same = np.array_equal(mapped.encoder_coefs_[0], in_memory.encoder_coefs_[0])
print("the same weights as from memory:", same)

# %%
# Chunks, 30 passes over them. The rate is lower than that of `fit`, as `partial_fit`
# doesn't reduce it.

chunked = ContractiveAutoencoderTransformer(learning_rate_init=0.01, random_state=0)
for _ in range(30):
    for chunk in np.array_split(rows, 4):
        chunked.partial_fit(chunk)
for name, model in {"map": mapped, "chunks": chunked}.items():
    print(f"error of the fit of the {name}: {-model.score(rows):.4f}")

# %%
# The objective of each epoch, by the number of passes over the rows. At a constant rate
# it settles at a higher value: the last steps of a fit, at lower rates, are worth much.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(np.arange(1, mapped.n_iter_ + 1), mapped.loss_curve_, label="fit of a map")
passes = np.arange(1, chunked.n_iter_ + 1) / 4
ax.plot(passes, chunked.loss_curve_, label="partial_fit of chunks", linewidth=0.8)
ax.set(xlabel="passes over all rows", ylabel="objective", yscale="log")
ax.legend()
folder.cleanup()
plt.show()
