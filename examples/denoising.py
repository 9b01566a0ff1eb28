"""
Denoising
=========

A model that is trained on corrupted samples to reconstruct the clean ones takes noise
off. ``corruption="gaussian"`` makes it of a
`~skcae.ContractiveAutoencoderTransformer`; ``corruption_level`` is the standard
deviation of the noise.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import ReconstructionDisplay

rng = np.random.default_rng(0)


def restored(model, X):
    return model.inverse_transform(model.transform(X))


def print_errors(models, X_train, damaged, clean):
    """Fit the models; print the mean squared errors of what they restore."""
    print(f"{'as it is':<20}{np.mean((damaged - clean) ** 2):.5f}")
    for name, model in models.items():
        error = np.mean((restored(model.fit(X_train), damaged) - clean) ** 2)
        print(f"{name:<20}{error:.5f}")


# %%
# Images
# ------
#
# The mean squared error of restored digits, which no model has seen. PCA and KernelPCA
# have the settings that are best here, of several that were tried.

X = load_digits().data / 16
X_train, X_test = X[:1200], X[1200:]
noisy = X_test + rng.normal(scale=0.2, size=X_test.shape)
denoising = ContractiveAutoencoderTransformer(
    256, corruption="gaussian", corruption_level=0.2, random_state=0
)
models = {
    "PCA": PCA(20),
    "KernelPCA": KernelPCA(
        32, kernel="rbf", gamma=0.05, alpha=0.1, fit_inverse_transform=True
    ),
    "plain autoencoder": ContractiveAutoencoderTransformer(lam=0, random_state=0),
    "denoising": denoising,
}
print_errors(models, X_train, noisy, X_test)
ReconstructionDisplay.from_estimator(
    denoising, noisy, clean=X_test, image_shape=(8, 8), max_samples=10
)

# %%
# Spectra
# -------
#
# Made-up absorption spectra of mixtures: twelve bands, which saturate, with strengths
# of their own in each sample, on a sloping baseline.

wavelengths = np.linspace(0, 1, 200)
centres, widths = rng.uniform(0, 1, 12), rng.uniform(0.01, 0.05, 12)
bands = np.exp(-0.5 * ((wavelengths - centres[:, None]) / widths[:, None]) ** 2)
strengths = rng.gamma(1.0, size=(900, 12))
clean = np.tanh(strengths @ bands / 2) + rng.uniform(0, 0.3, (900, 1)) * wavelengths
damaged = clean + rng.normal(scale=0.1, size=clean.shape)
models = {
    "PCA": PCA(16),
    "KernelPCA": KernelPCA(
        40, kernel="rbf", gamma=0.01, alpha=0.01, fit_inverse_transform=True
    ),
    "plain autoencoder": ContractiveAutoencoderTransformer(lam=0, random_state=0),
    "denoising": ContractiveAutoencoderTransformer(
        corruption="gaussian", corruption_level=0.1, random_state=0
    ),
}
print_errors(models, clean[:600], damaged[600:], clean[600:])

figure, ax = plt.subplots(layout="constrained")
ax.plot(wavelengths, damaged[600], color="0.8", label="damaged")
line = restored(models["denoising"], damaged[600:601])[0]
ax.plot(wavelengths, line, label="restored")
ax.plot(wavelengths, clean[600], "k:", label="clean")
ax.set(xlabel="wavelength", ylabel="absorption")
ax.legend()

# %%
# Missing values
# --------------
#
# The model of noisy digits fills gaps as well: the means of the pixels come first, then
# its reconstructions, again and again. Below are the roots of the mean squared errors
# of the missing pixels, a quarter of all.

missing = rng.random(X_test.shape) < 0.25
gaps = np.where(missing, np.nan, X_test)
means = SimpleImputer(keep_empty_features=True)
fills = {
    name: imputer.fit(X_train).transform(gaps)
    for name, imputer in {
        "means": means,
        "KNNImputer": KNNImputer(keep_empty_features=True),
        "IterativeImputer": IterativeImputer(
            n_nearest_features=15, max_iter=5, random_state=0
        ),
    }.items()
}
filled = means.transform(gaps)
for _ in range(20):
    filled = np.where(missing, restored(denoising, filled), gaps)
fills["denoising, 20 ×"] = filled
for name, rows in fills.items():
    print(f"{name:<20}{np.sqrt(np.mean((rows - X_test)[missing] ** 2)):.3f}")
plt.show()
