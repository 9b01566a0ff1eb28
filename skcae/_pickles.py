"""The version of skcae in pickled estimators."""

import warnings

from sklearn.exceptions import InconsistentVersionWarning

from ._version import __version__


class StampedMixin:
    """Stores the version of skcae in pickles; loading by another version warns."""

    def __getstate__(self):
        return {**super().__getstate__(), "_skcae_version": __version__}

    def __setstate__(self, state):
        version = state.pop("_skcae_version", "unknown")
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"skcae {__version__}",
                    original_sklearn_version=f"skcae {version}",
                )
            )
        super().__setstate__(state)
