"""
What the contraction buys
=========================

A classifier on top of raw pixels, of PCA, of a plain autoencoder and of a contractive
one of the same size: how accurate is it on clean test digits, and on noisy ones?
"""

from importlib.util import find_spec

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer

N_HIDDEN = 64
SEEDS = range(5)
NOISE_LEVELS = [0.0, 0.1, 0.2, 0.3]  # standard deviations; pixels lie in [0, 1]


def contractive(lam):
    return [ContractiveAutoencoderTransformer(N_HIDDEN, lam=lam), StandardScaler()]


features = {
    "raw pixels": [],
    "raw pixels, standardised": [StandardScaler()],
    "PCA": [PCA(n_components=0.95)],
    "PCA, standardised": [PCA(n_components=0.95), StandardScaler()],
    "autoencoder (lam=0)": contractive(0),
    "contractive (lam=0.3)": contractive(0.3),
    "contractive (lam=1)": contractive(1),
    "contractive (lam=3)": contractive(3),
}

X, y = load_digits(return_X_y=True)
X /= 16


def accuracies(steps, seed):
    """Return the test accuracy at each level of noise, for one split."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    for step in steps:
        if "random_state" in step.get_params():
            step.set_params(random_state=seed)
    model = make_pipeline(*steps, LogisticRegression(max_iter=1000))
    model.fit(X_train, y_train)
    noise = np.random.default_rng(seed).normal(size=X_test.shape)
    return [model.score(X_test + level * noise, y_test) for level in NOISE_LEVELS]


# %%
# Test accuracy, mean over five splits, for each level of Gaussian noise. The splits are
# shared out among the cores.

print(f"{'features':<26}" + "".join(f"noise {level:<6}" for level in NOISE_LEVELS))
means = {}
for name, steps in features.items():
    splits = Parallel(n_jobs=-1)(delayed(accuracies)(steps, seed) for seed in SEEDS)
    means[name] = np.mean(splits, axis=0)
    print(f"{name:<26}" + "".join(f"{mean:<12.3f}" for mean in means[name]))

# %%
# The same as curves, if matplotlib is there: the contraction flattens them. Noise on
# standardised pixels leads out of the picture.

if find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    reds = plt.get_cmap("Reds")([0.45, 0.7, 0.95])
    colors = ["0.6", "0.6", "C0", "C0", "C2", *reds]
    for (name, values), color in zip(means.items(), colors, strict=True):
        style = "o--" if "standardised" in name else "o-"
        ax.plot(NOISE_LEVELS, values, style, color=color, label=name)
    ax.set(
        xlabel="standard deviation of the noise",
        ylabel="test accuracy",
        xticks=NOISE_LEVELS,
        ylim=(0.74, 1),
    )
    figure.legend(loc="outside right upper")
    plt.show()
