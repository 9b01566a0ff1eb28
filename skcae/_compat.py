"""Differences between the supported versions of scikit-learn, in one place."""

import copy

# Private, but there is no public way to get the namespace of a tensor.
from sklearn.utils._array_api import get_namespace

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9 has no callbacks.

    class _NoCallbacks:
        def subcontext(self, **kwargs):
            return self

        def call_on_fit_task_begin(self, **kwargs):
            return self

        def call_on_fit_task_end(self, **kwargs):
            return False

    class CallbackSupportMixin:
        """Stands in for scikit-learn's mixin; no callback is ever called."""

        def _init_callback_context(self, **kwargs):
            return _NoCallbacks()

    def with_callbacks(method):
        """Return the method unchanged."""
        return method


# Attributes that hold an estimator's callbacks and their state during a fit.
# scikit-learn has no public way to remove them.
_OF_CALLBACKS = (
    "_callback_fit_ctx",
    "_parent_callback_ctx",
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
)


def without_callbacks(estimator):
    """Return a shallow copy of an estimator, without its callbacks."""
    estimator = copy.copy(estimator)
    for name in _OF_CALLBACKS:
        vars(estimator).pop(name, None)
    return estimator


__all__ = [
    "CallbackSupportMixin",
    "get_namespace",
    "with_callbacks",
    "without_callbacks",
]
