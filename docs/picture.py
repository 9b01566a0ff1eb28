"""Draw the picture on the front pages: docs/_static/front_page.png.

python docs/picture.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import ReconstructionDisplay, RobustnessDisplay

mpl.use("agg")
import matplotlib.pyplot as plt

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 3.6), width_ratios=(1, 1.25), layout="constrained"
)

features = {
    "raw pixels": [],
    "PCA": [PCA(0.95)],
    "skcae, lam=1": [
        ContractiveAutoencoderTransformer(64, lam=1, random_state=0),
        StandardScaler(),
    ],
}
models = {
    name: make_pipeline(*steps, LogisticRegression(max_iter=1000)).fit(X_train, y_train)
    for name, steps in features.items()
}
display = RobustnessDisplay.from_estimators(
    models, X_test, y_test, n_repeats=10, random_state=0, ax=left
)
left.set(title="Classifying noisy digits", ylabel="test accuracy")

denoising = ContractiveAutoencoderTransformer(
    256, corruption="gaussian", corruption_level=0.2, random_state=0
).fit(X_train)
noisy = X_test[:8] + np.random.default_rng(0).normal(scale=0.2, size=(8, 64))
ReconstructionDisplay.from_estimator(
    denoising, noisy, clean=X_test[:8], image_shape=(8, 8), ax=right
)
right.set(title="Taking noise off")

figure.savefig(Path(__file__).parent / "_static" / "front_page.png", dpi=160)
for name, scores in display.scores.items():
    print(name, *(f"{score:.3f}" for score in scores.mean(axis=1)))
