"""The autoencoder that another estimator is built on: found, checked and fitted."""

from copy import deepcopy

from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from ._compat import without_callbacks
from ._transformer import ContractiveAutoencoderTransformer
from .engine.rows import as_array
from .stacking import checked_steps, new_architecture, stack

# What the parameter ``transformer`` may be.
TRANSFORMERS = [ContractiveAutoencoderTransformer, Pipeline, FrozenEstimator, None]


class Pretraining:
    """What the parameter ``transformer`` of an estimator stands for.

    All that can be wrong with it is found out before the hours of training.

    Parameters
    ----------
    transformer : one of TRANSFORMERS
    X : array-like
        What it is fitted to, or what it was fitted to the like of.
    n_features : int
        Of X.
    seed : int
        Of transformers that have no ``random_state``.

    Attributes
    ----------
    first : ContractiveAutoencoderTransformer
        The one that gets X, fitted or not.
    sizes : tuple of int
        Numbers of features and of units by layer.
    """

    def __init__(self, transformer, X, n_features, seed):
        self.is_fitted = isinstance(transformer, FrozenEstimator)
        if self.is_fitted:
            self._start = self.first = self._fitted(transformer.estimator, X)
            self.sizes = self.first._fitted_architecture.sizes
            return
        if transformer is None:
            transformer = ContractiveAutoencoderTransformer()
        self._start = clone(transformer)
        steps = [("transformer", self._start)]
        if isinstance(self._start, Pipeline):
            steps = checked_steps(self._start, "transformer")
        for _, layer in steps:
            if layer.random_state is None:
                layer.set_params(random_state=seed)
            layer._validate_params()
            layer._settings()
        self.first = steps[0][1]
        self.sizes = new_architecture(steps, n_features).sizes

    def _fitted(self, transformer, X):
        """Return a copy of a fitted transformer, or of a pipeline as one."""
        if isinstance(transformer, Pipeline):
            checked_steps(transformer, "transformer")
            transformer = stack(transformer)
        if not isinstance(transformer, ContractiveAutoencoderTransformer):
            raise ValueError(
                "transformer must be a ContractiveAutoencoderTransformer, a "
                "Pipeline of them or a FrozenEstimator of either. Got "
                f"FrozenEstimator(estimator={transformer!r}) instead."
            )
        check_is_fitted(transformer)
        # X itself has been validated, its columns only by what this was given.
        validate_data(transformer, as_array(X), reset=False, skip_check_array=True)
        # Parameters may have been set since it was fitted.
        transformer._validate_params()
        # A copy, as the user may fit the original to something else.
        return deepcopy(_without_training(transformer))

    def run(self, X, weights):
        """Return the transformer, fitted to X with these sample weights or None."""
        start = self._start
        if not self.is_fitted:
            given = {} if weights is None else {"sample_weight": weights}
            if isinstance(start, Pipeline):
                given = {
                    f"{name}__{parameter}": value
                    for name, _ in start.steps
                    for parameter, value in given.items()
                }
            # With routing, each step would have to ask for weights.
            with config_context(enable_metadata_routing=False):
                start.fit(X, **given)
        if isinstance(start, Pipeline):
            start = stack(start)
        return _without_training(start)


def _without_training(transformer):
    """Return a shallow copy without what only the transformer's own training needs."""
    transformer = without_callbacks(transformer)
    transformer._training_state = None
    return transformer
