"""
Decompositions side by side
===========================

What sixteen components of digits look like, by several methods, and what their features
are worth: the accuracy of a logistic regression on clean and on noisy digits.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, FastICA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer

warnings.simplefilter("ignore", ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, stratify=y, random_state=0
)
noise = np.random.default_rng(0).normal(scale=0.25, size=X_test.shape)
n = 16
models = {
    "PCA": PCA(n),
    "ICA": FastICA(n, random_state=0, max_iter=500),
    "NMF": NMF(n, init="nndsvda", random_state=0, max_iter=500),
    "dictionary": MiniBatchDictionaryLearning(n, random_state=0),
    "RBM": BernoulliRBM(n, learning_rate=0.05, n_iter=30, random_state=0),
    "autoencoder": ContractiveAutoencoderTransformer(n, lam=0, random_state=0),
    "denoising": ContractiveAutoencoderTransformer(
        n, lam=0, corruption="gaussian", corruption_level=0.25, random_state=0
    ),
    "contractive, lam=1": ContractiveAutoencoderTransformer(n, lam=1, random_state=0),
}

# %%
# Each image is a component: the pixels that a feature looks at, those that lower it in
# blue.

figure, axes = plt.subplots(2, 4, figsize=(10, 6), layout="constrained")
for (name, model), ax in zip(models.items(), axes.flat, strict=True):
    pipeline = make_pipeline(model, StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(X_train, y_train)
    clean, noisy = (
        pipeline.score(rows, y_test) for rows in (X_test, np.maximum(X_test + noise, 0))
    )
    print(f"{name:<20} clean {clean:.3f}   noisy {noisy:.3f}")
    images = model.components_.reshape(4, 4, 8, 8)
    images = images / np.abs(images).max(axis=(2, 3), keepdims=True)
    framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    ax.imshow(
        framed.swapaxes(1, 2).reshape(36, 36)[:-1, :-1], cmap="RdBu_r", vmin=-1, vmax=1
    )
    ax.set_title(f"{name}\n{clean:.3f}, noisy {noisy:.3f}", fontsize="medium")
    ax.axis("off")
plt.show()
