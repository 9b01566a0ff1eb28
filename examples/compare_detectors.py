"""
Detectors side by side
======================

What detectors of outliers take for normal, on data of two dimensions: the contours that
`~skcae.ContractiveAutoencoderDetector` and detectors of scikit-learn draw around 300
samples, with 15% of outliers among them. All have default settings but for the share of
outliers, which they are told.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import make_blobs, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from skcae import ContractiveAutoencoderDetector

N_SAMPLES, SHARE = 300, 0.15
n_outliers = int(SHARE * N_SAMPLES)
n_inliers = N_SAMPLES - n_outliers

rng = np.random.default_rng(0)
moons, _ = make_moons(n_inliers, noise=0.05, random_state=0)
angles = rng.uniform(0, 2 * np.pi, n_inliers)
data = {
    "one blob": make_blobs(n_inliers, centers=[[0, 0]], random_state=0)[0],
    "two blobs": make_blobs(
        n_inliers, centers=[[2, 2], [-2, -2]], cluster_std=[1.5, 0.3], random_state=0
    )[0],
    "moons": 4 * (moons - [0.5, 0.25]),
    "ring": np.stack([np.cos(angles), np.sin(angles)], axis=1) * 4
    + 0.2 * rng.normal(size=(n_inliers, 2)),
    "sine": np.stack([angles * 2 - 6, 3 * np.sin(2 * angles)], axis=1)
    + 0.2 * rng.normal(size=(n_inliers, 2)),
}

# %%
# The grey area is what each detector accepts. The figure in each corner is the area
# under the ROC curve of the samples shown.

figure, axes = plt.subplots(
    len(data), 5, figsize=(11, 2.2 * len(data)), layout="constrained"
)
plane = np.stack(np.meshgrid(*2 * [np.linspace(-7, 7, 100)]), axis=-1)
means = {}
for (kind, inliers), row in zip(data.items(), axes, strict=True):
    X = np.vstack([inliers, rng.uniform(-6, 6, size=(n_outliers, 2))])
    is_inlier = np.arange(N_SAMPLES) < n_inliers
    detectors = {
        "skcae": ContractiveAutoencoderDetector(contamination=SHARE, random_state=0),
        "EllipticEnvelope": EllipticEnvelope(contamination=SHARE, random_state=0),
        "OneClassSVM": OneClassSVM(nu=SHARE),
        "IsolationForest": IsolationForest(contamination=SHARE, random_state=0),
        "LocalOutlierFactor": LocalOutlierFactor(contamination=SHARE, novelty=True),
    }
    for (name, detector), ax in zip(detectors.items(), row, strict=True):
        accepted = detector.fit(X).decision_function(plane.reshape(-1, 2))
        auc = roc_auc_score(is_inlier, detector.score_samples(X))
        means.setdefault(name, []).append(auc)
        ax.contourf(
            *np.moveaxis(plane, -1, 0),
            accepted.reshape(plane.shape[:-1]),
            levels=[0, np.inf],
            colors=["0.85"],
        )
        for part, color in (is_inlier, "C0"), (~is_inlier, "C1"):
            ax.scatter(*X[part].T, s=5, color=color, linewidths=0)
        ax.text(0.98, 0.02, f"{auc:.2f}", ha="right", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
        if ax in axes[0]:
            ax.set_title(name)
        if ax in axes[:, 0]:
            ax.set_ylabel(kind)

# %%
# Two dimensions are what an autoencoder needs least: there is nothing to compress, and
# neighbours in the plane say it all. On data of more features the order is another one
# (:doc:`/outliers`).

for name, values in means.items():
    print(f"{name:<20} mean area under the ROC curve {np.mean(values):.2f}")
plt.show()
