"""
What a contractive autoencoder has learned
==========================================

The contraction makes the hidden representation insensitive to most directions of the
input space. These figures show to which it remains sensitive, and what can be made of
that.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import (
    ComponentsDisplay,
    ContractionRatioDisplay,
    ReconstructionDisplay,
    SamplingDisplay,
    SingularValueDisplay,
    TangentDisplay,
    TrainingCurveDisplay,
)
from skcae.geometry import local_dimension

X, y = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X / 16, random_state=0)
IMAGES = {"image_shape": (8, 8)}

# %%
# Pixels in [0, 1] can be read as probabilities, for which there is the cross-entropy.

# sphinx_gallery_thumbnail_number = 5

models = {
    f"lam={lam:g}": ContractiveAutoencoderTransformer(
        lam=lam,
        loss="cross_entropy",
        output_activation="sigmoid",
        early_stopping=True,
        random_state=0,
    ).fit(X_train)
    for lam in [0.01, 0.1, 1]
}
cae = models["lam=1"]
TrainingCurveDisplay.from_estimator(cae)

# %%
# A reconstruction keeps what the digit has in common with the others.

ReconstructionDisplay.from_estimator(cae, X_test[:10], **IMAGES)

# %%
# The weights of the hidden units look for strokes and their absence.

ComponentsDisplay.from_estimator(cae, **IMAGES)

# %%
# The singular values of the encoder's Jacobian at a sample say by how much it stretches
# its neighbourhood, by direction. A stronger penalty leaves few directions: the local
# dimension counts them. The contraction ratio averages over all directions, and shows
# how far the contraction extends.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, model in models.items():
    dimension = local_dimension(model, X_test).mean()
    print(f"{name}: mean local dimension {dimension:.1f}")
    SingularValueDisplay.from_estimator(model, X_test, name=name, ax=left)
    ContractionRatioDisplay.from_estimator(
        model, X_test, name=name, ax=right, random_state=0
    )

# %%
# The directions themselves, of the largest singular values, span the tangent space of
# the manifold that the digits lie near: the changes that the model has found digits to
# differ by.

TangentDisplay.from_estimator(cae, X_test[:5], **IMAGES)

# %%
# Random walks along the tangents lead from one digit to others, as blurred as the
# reconstructions. With ``sigma=2`` they keep the variance of the data.

SamplingDisplay.from_estimator(
    cae, X_test[:6], n_steps=50, sigma=2, every=5, random_state=0, **IMAGES
)
plt.show()
