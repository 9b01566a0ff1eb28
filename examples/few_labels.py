"""
Few labels
==========

Labels are dear, data are cheap: 100 digits have a label, the other 1247 of the training
set have none. A contractive autoencoder learns from all of them, and the classifier
that starts from its encoder from those with labels. The Manifold Tangent Classifier
also uses the directions in which the autoencoder has found the data to vary: along
these, it keeps the probabilities of the classes as constant as it can.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import LabelSpreading

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

N_LABELS = 100
N_HIDDEN = 256
SEEDS = range(5)

X, y = load_digits(return_X_y=True)
X /= 16

# %%
# The label −1 means that there is none. One autoencoder serves two classifiers: a
# `~sklearn.frozen.FrozenEstimator` isn't fitted again.

accuracies = {}
for seed in SEEDS:
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=seed
    )
    labelled, _ = train_test_split(
        np.arange(len(X_train)),
        train_size=N_LABELS,
        stratify=y_train,
        random_state=seed,
    )
    y_few = np.full_like(y_train, -1)
    y_few[labelled] = y_train[labelled]

    autoencoder = ContractiveAutoencoderTransformer(N_HIDDEN, lam=1, random_state=seed)
    pretrained = FrozenEstimator(autoencoder.fit(X_train))
    supervised = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "MLPClassifier": MLPClassifier((N_HIDDEN,), max_iter=1000, random_state=seed),
        "pretrained on the labelled digits": ContractiveAutoencoderClassifier(
            autoencoder, random_state=seed
        ),
    }
    semi_supervised = {
        "pretrained on all digits": ContractiveAutoencoderClassifier(
            pretrained, label_spreading=False, random_state=seed
        ),
        "with 15 tangents": ContractiveAutoencoderClassifier(
            pretrained,
            tangent_weight=3,
            n_tangents=15,
            label_spreading=False,
            random_state=seed,
        ),
        "with spread labels, the default": ContractiveAutoencoderClassifier(
            pretrained, random_state=seed
        ),
        "LabelSpreading": LabelSpreading(kernel="knn"),
    }
    for name, model in supervised.items():
        model.fit(X_train[labelled], y_train[labelled])
        accuracies.setdefault(name, []).append(model.score(X_test, y_test))
    for name, model in semi_supervised.items():
        model.fit(X_train, y_few)
        accuracies.setdefault(name, []).append(model.score(X_test, y_test))

# %%
# Test accuracy over five splits: mean ± standard deviation. The splits differ more than
# the models do, so that the last column compares each model with the perceptron, split
# by split. The classifiers have their default settings; lam and the weight of the
# tangents were chosen by the results of other splits. The digits without a label gain
# next to nothing where they only pretrain an encoder. Much more comes of labels that
# spread to them, by a graph of neighbours alone
# (`~sklearn.semi_supervised.LabelSpreading`) or together with the network.

perceptron = np.array(accuracies["MLPClassifier"])
print(f"{'':<36}accuracy         better than MLPClassifier by")
for name, values in accuracies.items():
    gains = np.array(values) - perceptron
    print(
        f"{name:<36}{np.mean(values):.3f} ± {np.std(values):.3f}    "
        f"{gains.mean():+.3f} ± {gains.std():.3f}"
    )

# %%
# The last column split by split: a point for each, and their mean.

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
others = [name for name in accuracies if name != "MLPClassifier"]
for row, name in enumerate(others):
    gains = np.array(accuracies[name]) - perceptron
    ax.plot(gains, np.full(len(gains), row), "o", color="C0", alpha=0.5)
    ax.plot(gains.mean(), row, "|", color="black", markersize=20)
ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
ax.set_yticks(range(len(others)), others)
ax.margins(y=0.2)
ax.invert_yaxis()
ax.set_xlabel("accuracy minus that of MLPClassifier")
plt.show()
