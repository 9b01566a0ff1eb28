"""
A loop of your own
==================

A fitted model goes to PyTorch, is trained on by a loss that no estimator here has, and
comes back. The digits have broken pixels, in training too, of which squared errors take
too much notice: absolute errors, in a loop of PyTorch, mind them less.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import ReconstructionDisplay
from skcae.export import from_torch, to_torch
from skcae.losses import contractive_penalty

clean = load_digits().data.astype(np.float32) / 16
rng = np.random.default_rng(0)
is_broken = rng.random(clean.shape) < 0.1
X = np.where(is_broken, rng.integers(2, size=clean.shape, dtype=np.uint8), clean)
X = X.astype(np.float32)
X_train, X_test, _, clean_test = train_test_split(X, clean, random_state=0)

cae = ContractiveAutoencoderTransformer(64, lam=1, random_state=0).fit(X_train)

# %%
# The loop: absolute errors, and twice the weight of the penalty, since absolute errors
# in [0, 1] are larger than squared ones. The fixed seed makes it the same each time.

torch.manual_seed(0)
module = to_torch(cae, "autoencoder")
optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
batches = torch.utils.data.DataLoader(
    torch.tensor(X_train), batch_size=128, shuffle=True
)
for _ in range(100):
    for x in batches:
        errors = (module(x) - x).abs().sum(dim=1)
        loss = (errors + 2 * contractive_penalty(module.encoder, x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %%
# What comes back is an estimator as before. The distance of its reconstructions from
# the whole digits, which neither of the models has seen:

trained = from_torch(module, cae, "autoencoder")
print(f"{'the input itself':<18} {np.mean((X_test - clean_test) ** 2):.4f}")
for name, model in {"squared errors": cae, "absolute errors": trained}.items():
    restored = model.inverse_transform(model.transform(X_test))
    print(f"{name:<18} {np.mean((restored - clean_test) ** 2):.4f}")
ReconstructionDisplay.from_estimator(
    trained, X_test[:10], image_shape=(8, 8), clean=clean_test[:10]
)
plt.show()
