"""The local geometry that a fitted contractive autoencoder has learned.

The encoder's Jacobian J = ∂h/∂x at a sample tells which directions of the input space
the hidden representation is sensitive to. The penalty makes it insensitive to most
directions. The others are tangent to the manifold near which the data concentrate.
"""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from ._transformer import ContractiveAutoencoderTransformer
from .engine import geometry
from .engine.inference import code

__all__ = [
    "contraction_ratio",
    "local_dimension",
    "score_field",
    "singular_values",
    "tangent_bases",
]

_ESTIMATOR = {"estimator": [ContractiveAutoencoderTransformer]}


@validate_params(_ESTIMATOR, prefer_skip_nested_validation=True)
def singular_values(estimator, X):
    """Compute the singular values of the encoder's Jacobian at each sample.

    They are the factors by which the encoder stretches or contracts the neighbourhood
    of a sample in each direction. Their squares sum to ``estimator.contraction(X)``.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.

    Returns
    -------
    values : ndarray of shape (n_samples, min(n_hidden, n_features))
        The singular values of each sample's Jacobian, in [0, inf), descending, in
        float32 if X is, else in float64. n_hidden is the number of units of the last
        layer.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X is invalid, or so large that a Jacobian can't be decomposed.

    See Also
    --------
    tangent_bases : The directions that belong to the leading singular values.
    local_dimension : The effective number of large singular values.

    Notes
    -----
    The singular values are computed from the Jacobian itself, not from its Gram matrix.
    The error is of the order of the dtype's precision, relative to the sample's largest
    singular value.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive
       Auto-Encoders: Explicit Invariance During Feature Extraction", ICML 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.geometry import singular_values
    >>> X = minmax_scale(load_iris().data)
    >>> cae = ContractiveAutoencoderTransformer(n_hidden=3, random_state=0).fit(X)
    >>> values = singular_values(cae, X)
    >>> values.shape
    (150, 3)
    >>> np.allclose((values**2).sum(axis=1), cae.contraction(X))
    True
    """
    X = estimator._validate_rows(X)
    entries = geometry.entries_per_row(estimator._fitted_architecture)
    return estimator._map_rows(geometry.singular_values, X, entries_per_row=entries)


@validate_params(
    _ESTIMATOR | {"n_components": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def tangent_bases(estimator, X, n_components):
    """Compute an orthonormal basis of the manifold's tangent space at each sample.

    Its vectors are the leading right singular vectors of the encoder's Jacobian: the
    directions of the input space in which the hidden representation changes most [1]_.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.
    n_components : int
        Number of vectors. At least 1, and at most the smallest of n_features and the
        layers' numbers of units, which bounds the rank of the Jacobian.

    Returns
    -------
    bases : ndarray of shape (n_samples, n_components, n_features)
        Orthonormal vectors in the order of descending singular values, in float32 if X
        is, else in float64. The entry of largest magnitude of each vector is positive.
        The vectors of equal singular values, such as zeros, are an arbitrary basis of
        their span.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X is invalid, or so large that a Jacobian can't be decomposed, or if
        ``n_components`` is out of range.

    See Also
    --------
    singular_values : The singular values of the Jacobian.

    References
    ----------
    .. [1] S. Rifai, Y. Dauphin, P. Vincent, Y. Bengio and X. Muller, "The Manifold
       Tangent Classifier", NIPS 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.geometry import tangent_bases
    >>> X = minmax_scale(load_iris().data)
    >>> cae = ContractiveAutoencoderTransformer(n_hidden=3, random_state=0).fit(X)
    >>> bases = tangent_bases(cae, X, n_components=2)
    >>> bases.shape
    (150, 2, 4)
    >>> np.allclose(bases @ bases.transpose(0, 2, 1), np.eye(2))
    True
    """
    X = estimator._validate_rows(X)
    sizes = estimator._fitted_architecture.sizes
    if n_components > min(sizes):
        raise ValueError(
            f"n_components must be at most {min(sizes)}, the smallest of the numbers "
            f"of features and of units by layer {sizes}. Got {n_components} instead."
        )
    entries = max(
        geometry.entries_per_row(estimator._fitted_architecture),
        n_components * sizes[0],
    )
    function = geometry.tangent_bases(n_components)
    return estimator._map_rows(function, X, entries_per_row=entries)


@validate_params(_ESTIMATOR, prefer_skip_nested_validation=True)
def local_dimension(estimator, X):
    """Compute the effective number of directions that the encoder is sensitive to.

    It is the participation ratio of the squared singular values σ² of the encoder's
    Jacobian at a sample, ::

        (Σ_i σ_i²)² / Σ_i σ_i⁴

    which is k if k singular values are equal and the others are zero.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.

    Returns
    -------
    dimensions : ndarray of shape (n_samples,)
        Real numbers from 1 to the rank of the Jacobian, or 0 if the Jacobian is zero.
        In float32 if X is, else in float64.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X is invalid.

    See Also
    --------
    singular_values : The singular values of the Jacobian.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.geometry import local_dimension
    >>> X = minmax_scale(load_iris().data)
    >>> cae = ContractiveAutoencoderTransformer(n_hidden=3, random_state=0).fit(X)
    >>> dimensions = local_dimension(cae, X)
    >>> bool(1 <= dimensions.min() <= dimensions.max() <= 3)
    True
    """
    X = estimator._validate_rows(X)
    entries = geometry.entries_per_row(estimator._fitted_architecture)
    return estimator._map_rows(geometry.participation_ratio, X, entries_per_row=entries)


def _check_radii(radii):
    radii = check_array(
        radii, ensure_2d=False, dtype=np.float64, input_name="radii", copy=True
    )
    if radii.ndim != 1:
        raise ValueError(f"radii must be a 1d array. Got shape {radii.shape} instead.")
    if radii.min() <= 0:
        raise ValueError(f"radii must be in the range (0, inf). Got {radii.min()}.")
    return radii


@validate_params(
    _ESTIMATOR
    | {
        "radii": ["array-like"],
        "n_directions": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def contraction_ratio(estimator, X, radii, *, n_directions=10, random_state=None):
    """Compute how much the encoder contracts distances, as a function of the distance.

    The contraction ratio of two points is the distance of their hidden representations
    divided by the distance of the points. Here one of the points is a sample, and the
    other is drawn from the sphere of radius r around it. The average ratio as a
    function of r is the contraction curve [1]_. The encoder contracts where it is
    below 1.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.
    radii : array-like of shape (n_radii,)
        Radii r of the spheres, in (0, inf), in the units of X.
    n_directions : int, default=10
        Number of random directions for each sample, in [1, inf). All spheres around a
        sample share the directions.
    random_state : int, RandomState instance or None, default=None
        Draws the directions. Pass an int for reproducible results. See :term:`Glossary
        <random_state>`.

    Returns
    -------
    ratios : ndarray of shape (n_radii,)
        Mean of ‖h(x + r v) - h(x)‖ / r over samples x and random unit vectors v, in
        float32 if X is, else in float64.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X or another parameter is invalid.

    Notes
    -----
    All computations are in float64, which the differences at small radii need.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive
       Auto-Encoders: Explicit Invariance During Feature Extraction", ICML 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.geometry import contraction_ratio
    >>> X = minmax_scale(load_iris().data)
    >>> cae = ContractiveAutoencoderTransformer(lam=1, random_state=0).fit(X)
    >>> near, far = contraction_ratio(cae, X, [0.1, 100], random_state=0)
    >>> bool(1 > near > far)
    True
    """
    floats = (np.float64, np.float32)
    # The points around a sample aren't sparse.
    X = estimator._validate_rows(X, dtype=floats)[:]
    radii = _check_radii(radii)
    rng = check_random_state(random_state)
    dtype, X = X.dtype, X.astype(np.float64, copy=False)
    H = estimator._map_rows(code, X)
    ratios = np.zeros(len(radii))
    for _ in range(n_directions):
        directions = rng.standard_normal(X.shape)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        for i, radius in enumerate(radii):
            moved = estimator._map_rows(code, X + radius * directions)
            ratios[i] += np.linalg.norm(moved - H, axis=1).mean() / radius
    return (ratios / n_directions).astype(dtype)


@validate_params(_ESTIMATOR, prefer_skip_nested_validation=True)
def score_field(estimator, X):
    """Compute the displacement from each sample to its reconstruction.

    The displacement points to where the data concentrate. Up to a factor, it estimates
    the score ∂ log p / ∂x of their density p. This is proven for denoising autoencoders
    and for a penalty on the Jacobian of the whole reconstruction, in the limit of
    vanishing noise or penalty and of unlimited capacity [1]_. It is not proven for the
    penalty on the encoder's Jacobian, which is similar.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data.

    Returns
    -------
    field : ndarray of shape (n_samples, n_features)
        x̂ - x for each sample x, in float32 if X is, else in float64.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X is invalid.

    References
    ----------
    .. [1] G. Alain and Y. Bengio, "What Regularized Auto-Encoders Learn from the
       Data-Generating Distribution", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.geometry import score_field
    >>> X = minmax_scale(load_iris().data)
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> field = score_field(cae, X)
    >>> np.allclose(-(field**2).sum(axis=1), cae.score_samples(X))
    True
    """
    return estimator._map_rows(geometry.displacement, estimator._validate_rows(X))
