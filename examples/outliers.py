"""
Outliers
========

`~skcae.ContractiveAutoencoderDetector` tells samples that are unlike those it was
fitted to. Here it knows the digits but for the nines, and is shown digits that are
damaged in one of four ways, and nines.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor

from skcae import ContractiveAutoencoderDetector
from skcae.displays import FeatureErrorDisplay, OutlierScoreDisplay

SEEDS = range(3)
UNSEEN = 9


def damaged(X, rng):
    """Return copies of 8 × 8 images with damages of several kinds."""
    noisy = np.clip(X + rng.normal(scale=0.2, size=X.shape), 0, 1)
    patched, occluded, mixed = (X.reshape(-1, 8, 8).copy() for _ in range(3))
    for image in patched:
        row, column = rng.integers(6, size=2)
        image[row : row + 3, column : column + 3] = rng.uniform(size=(3, 3))
    for image in occluded:
        row, column = rng.integers(1, 4, size=2)
        image[row : row + 4, column : column + 4] = 0
    mixed[:, 4:] = rng.permutation(mixed)[:, 4:]
    images = {
        "noise on all pixels": noisy,
        "3 × 3 pixels of noise": patched,
        "4 × 4 pixels blank": occluded,
        "halves of two digits": mixed,
    }
    return {name: rows.reshape(len(X), -1) for name, rows in images.items()}


class ReconstructingPCA(PCA):
    """PCA, scored by its reconstruction."""

    def score_samples(self, X):
        return -((self.inverse_transform(self.transform(X)) - X) ** 2).sum(axis=1)


X, y = load_digits(return_X_y=True)
X /= 16

# %%
# All detectors have their default settings, but for PCA: all components, its default,
# would reconstruct everything, and 85% of the variance is about what is best here.

aucs = {}
for seed in SEEDS:
    models = {
        "skcae": ContractiveAutoencoderDetector(random_state=seed),
        "PCA (85%)": ReconstructingPCA(n_components=0.85, random_state=seed),
        "IsolationForest": IsolationForest(random_state=seed),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    }
    X_train, X_test = train_test_split(X[y != UNSEEN], test_size=0.3, random_state=seed)
    outliers = damaged(X_test, np.random.default_rng(seed))
    outliers[f"unseen digit ({UNSEEN})"] = X[y == UNSEEN]
    curves = {}
    for name, model in models.items():
        model.fit(X_train)
        inliers = model.score_samples(X_test)
        for kind, rows in outliers.items():
            scores = np.concatenate([inliers, model.score_samples(rows)])
            is_inlier = np.arange(len(scores)) < len(inliers)
            aucs.setdefault(kind, {}).setdefault(name, []).append(
                roc_auc_score(is_inlier, scores)
            )
            curves.setdefault(kind, {})[name] = is_inlier, scores

# %%
# Area under the ROC curve, mean over three splits: 1 is perfect and 0.5 is chance.

print(f"{'':<21}" + "".join(f"{name:>{len(name) + 3}}" for name in models))
for kind, by_model in aucs.items():
    means = (f"{np.mean(v):>{len(name) + 3}.3f}" for name, v in by_model.items())
    print(f"{kind:<21}" + "".join(means))

# %%
# The curves of the last split for two kinds:

figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
kinds = ["noise on all pixels", "halves of two digits"]
for ax, kind in zip(axes, kinds, strict=True):
    for name, (is_inlier, scores) in curves[kind].items():
        RocCurveDisplay.from_predictions(is_inlier, scores, name=name, ax=ax)
    ax.set(title=kind, xlabel="outliers accepted", ylabel="inliers accepted")

# %%
# The scores of the last split. Below the threshold is a tenth of the training samples,
# as ``contamination=0.1`` says.

detector = models["skcae"]
patched = outliers["3 × 3 pixels of noise"]
kinds = np.repeat(["digits", "3 × 3 pixels of noise"], [len(X_test), len(patched)])
OutlierScoreDisplay.from_estimator(detector, np.vstack([X_test, patched]), kinds)

# %%
# Which pixels are to blame, of those with the lowest scores: the samples, and below
# them the squared errors.

FeatureErrorDisplay.from_estimator(detector, patched, image_shape=(8, 8))
plt.show()
