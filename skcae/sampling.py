"""Random walks along the manifold that a fitted contractive autoencoder has learned."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from ._transformer import ContractiveAutoencoderTransformer
from .engine.geometry import walk

__all__ = ["sample"]


@validate_params(
    {
        "estimator": [ContractiveAutoencoderTransformer],
        "n_samples": [Interval(Integral, 1, None, closed="left"), None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "return_path": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def sample(
    estimator,
    X,
    n_samples=None,
    *,
    n_steps=10,
    sigma=1.0,
    return_path=False,
    random_state=None,
):
    """Draw samples by random walks that follow the learned manifold.

    A walk starts from a row x of X and repeats [1]_ ::

        x ← g(h + J Jᵀ ε)   with   h = f(x),  J = ∂f/∂x,  ε ~ N(0, σ² I)

    with the encoder f and the decoder g. J Jᵀ turns noise into steps in the directions
    that the encoder is sensitive to, in proportion to their squared singular values.
    These directions lead along the manifold and not away from it. No noise is added to
    the reconstruction that the decoder returns.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        A fitted estimator.
    X : {array-like, sparse matrix} of shape (n_rows, n_features)
        Rows to start from.
    n_samples : int or None, default=None
        Number of walks, in [1, inf). Each starts from a row drawn at random, with
        replacement. None starts one walk from each row, in order.
    n_steps : int, default=10
        Number of steps of a walk. In [1, inf).
    sigma : float, default=1.0
        Standard deviation σ of the noise, in [0, inf). With 0, a walk only reconstructs
        ``n_steps`` times. The more the encoder contracts, the smaller is J Jᵀ, and the
        larger σ must be. Choose σ such that the walks keep the variance of the data.
        With a smaller σ they shrink towards a mean.
    return_path : bool, default=False
        Whether to return all states of the walks instead of the last ones.
    random_state : int, RandomState instance or None, default=None
        Draws the rows and the noise. Pass an int for reproducible results; a walk of
        fewer steps is then the beginning of a walk of more steps. See :term:`Glossary
        <random_state>`.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_features) or \
            (n_samples, n_steps + 1, n_features)
        The last states of the walks. With ``return_path=True``, all states; the first
        is the row that the walk started from. In float32 if X is, else in float64.

    Raises
    ------
    NotFittedError
        If the estimator isn't fitted.
    ValueError
        If X or another parameter is invalid.

    Warns
    -----
    UserWarning
        If the mean square of the last states is more than three times that of the rows
        that the walks started from (for the first 1000 walks).

    Notes
    -----
    Walks stay near the data if reconstruction leads back there, as it does for images
    in [0, 1] with ``output_activation="sigmoid"`` and ``loss="cross_entropy"``. A
    linear decoder doesn't bound the states: long walks can drift far away, even with
    ``sigma=0``.

    References
    ----------
    .. [1] S. Rifai, Y. Bengio, Y. Dauphin and P. Vincent, "A Generative Process for
       Sampling Contractive Auto-Encoders", ICML 2012.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.sampling import sample
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(
    ...     lam=1, output_activation="sigmoid", loss="cross_entropy", random_state=0
    ... ).fit(X)
    >>> sample(cae, X, n_samples=100, random_state=0).shape
    (100, 64)
    """
    X = estimator._validate_rows(X)
    rng = check_random_state(random_state)
    seed = rng.randint(np.iinfo(np.int32).max)
    if n_samples is not None:
        X = X[rng.randint(X.shape[0], size=n_samples)]
    entries = max(estimator._fitted_architecture.sizes)
    if return_path:
        entries = max(entries, (n_steps + 1) * X.shape[1])
    function = walk(n_steps, sigma, seed, return_path)
    walks = estimator._map_rows(function, X, entries_per_row=entries)
    _warn_of_drift(X, walks[:, -1] if return_path else walks)
    return walks


def _warn_of_drift(starts, ends, n=1000):
    """Warn if the first n walks have moved far beyond the rows they started from."""
    before, after = (np.square(rows[:n], dtype=float).mean() for rows in (starts, ends))
    if before > 0 and not after <= 3 * before:  # not finite, perhaps
        warnings.warn(
            f"The walks have left the data: their mean square is {after / before:.2g} "
            "times that of the rows they started from. Take a smaller sigma, fewer "
            "steps, a larger lam, or an estimator with output_activation='sigmoid'.",
            UserWarning,
            stacklevel=4,
        )
