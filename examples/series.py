"""
Series
======

Rows that are measured over time, such as those of sensors, are like images in one way:
neighbouring features are alike, and noise is unlike them. The series here are
simulated: a plateau, a rise or a fall at a random place, in noise (N. Saito, "Local
Feature Extraction and Its Applications Using a Library of Bases", PhD thesis, Yale
University, 1994).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import RobustnessDisplay

KINDS = ("cylinder", "bell", "funnel")
LENGTH = 128


def cylinder_bell_funnel(n_samples, rng):
    """Return series of shape (n_samples, 128), and the numbers of their kinds."""
    times = np.arange(LENGTH)
    y = rng.integers(3, size=n_samples)
    starts = rng.integers(16, 33, size=(n_samples, 1))
    lengths = rng.integers(32, 97, size=(n_samples, 1))
    rise = (times - starts) / lengths
    shapes = np.stack([np.ones_like(rise), rise, 1 - rise])[y, np.arange(n_samples)]
    shapes[(rise < 0) | (rise > 1)] = 0
    heights = 6 + rng.normal(size=(n_samples, 1))
    return heights * shapes + rng.normal(size=(n_samples, LENGTH)), y


rng = np.random.default_rng(0)
X_train, y_train = cylinder_bell_funnel(300, rng)
X_test, y_test = cylinder_bell_funnel(2000, rng)

# %%
# One factor for all features keeps the shape of a series. A logistic regression on raw
# rows can't tell a rise that begins here from one that begins there. The number of
# components and ``lam`` are chosen by cross-validation.

scale = X_train.std()
X_train, X_test = X_train / scale, X_test / scale
features = {
    "PCA": (PCA(random_state=0), {"features__n_components": [5, 10, 20, 40]}),
    "contractive": (
        ContractiveAutoencoderTransformer(random_state=0),
        {"features__lam": ["auto", 3, 10, 30, 100]},
    ),
}
models = {"raw": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))}
models["raw"].fit(X_train, y_train)
for name, (transformer, grid) in features.items():
    pipeline = Pipeline(
        [
            ("features", transformer),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )
    models[name] = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)
    print(f"{name}: {models[name].best_params_}")
for name, model in models.items():
    print(f"{name:<12} accuracy {model.score(X_test, y_test):.3f}")

# %%
# With more noise in the series to come than in those to learn from:

RobustnessDisplay.from_estimators(models, X_test, y_test, random_state=0)

# %%
# A denoising model sees the shapes.

denoiser = ContractiveAutoencoderTransformer(
    corruption="gaussian", corruption_level=1, random_state=0
).fit(X_train)
restored = denoiser.inverse_transform(denoiser.transform(X_test))
figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for kind, ax in enumerate(axes):
    row = np.flatnonzero(y_test == kind)[0]
    ax.plot(X_test[row], color="0.7", label="series")
    ax.plot(restored[row], label="reconstruction")
    ax.set(title=KINDS[kind], xlabel="time")
axes[2].legend()
plt.show()
