"""
Pictures of features
====================

Three questions about features, each with a display that answers it: do they keep the
classes apart, what are they worth on noisy rows, and what does ``lam`` do?
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import CodeDisplay, PenaltySweepDisplay, RobustnessDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, stratify=y, random_state=0
)
features = {
    "raw pixels": [],
    "PCA": [PCA(0.95)],
    "contractive": [
        ContractiveAutoencoderTransformer(lam=1, random_state=0),
        StandardScaler(),
    ],
}
models = {
    name: make_pipeline(*steps, LogisticRegression(max_iter=1000)).fit(X_train, y_train)
    for name, steps in features.items()
}
cae = models["contractive"][0]


def accuracy(fitted):
    """Return the accuracy, on noisy digits, of a classifier on fitted features."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(fitted.transform(X_train), y_train)
    noise = np.random.default_rng(0).normal(scale=0.25, size=X_test.shape)
    return classifier.score(fitted.transform(X_test + noise), y_test)


# %%
# All three in one figure. Each takes axes to draw on; the sweep fits a model for each
# ``lam``, and draws what any function makes of it beside the loss and the contraction.

figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
CodeDisplay.from_estimator(cae, X_test, y_test, ax=axes[0])
RobustnessDisplay.from_estimators(models, X_test, y_test, random_state=0, ax=axes[1])
PenaltySweepDisplay.from_estimator(
    cae, X_train, X_test, lams=np.geomspace(0.001, 30, 10), scorer=accuracy, ax=axes[2]
)
for ax, title in zip(axes, ["codes", "noise", "lam"], strict=True):
    ax.set_title(title)

# %%
# Any transformer takes the codes to the plane, such as t-SNE:

CodeDisplay.from_estimator(cae, X_test, y_test, reducer=TSNE(random_state=0))
plt.show()
