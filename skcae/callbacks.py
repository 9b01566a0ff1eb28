"""Callbacks that scikit-learn 1.9 and newer calls while a model is fitted."""

import os
import pickle
import warnings
from pathlib import Path

from sklearn.base import BaseEstimator

from ._classifier import ContractiveAutoencoderClassifier
from ._compat import without_callbacks
from ._transformer import ContractiveAutoencoderTransformer
from .engine.distributed import current_group

__all__ = ["Checkpoint"]

_WITH_EPOCHS = ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer


class _Pickler(pickle.Pickler):
    """Leaves out the callbacks of all estimators, including nested ones.

    Callbacks may hold objects that can't be pickled: files, threads, connections.
    """

    def reducer_override(self, value):
        if isinstance(value, BaseEstimator):
            return without_callbacks(value).__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        return NotImplemented


class Checkpoint:
    """Save the model after each epoch, so that a killed training can be resumed.

    Pass a checkpoint to ``set_callbacks`` of a `ContractiveAutoencoderTransformer` with
    ``warm_start=True``. It saves a pickle of the model, fitted as if training had ended
    with that epoch. After loading the pickle, ``fit(X)`` resumes the training exactly,
    for at most ``max_iter`` further epochs. To limit the epochs of both calls to
    ``total``, first call ``set_params(max_iter=total - model.n_iter_)``. If that number
    is 0, the loaded model is the result.

    When training has converged, delete or rename the file. A model that had converged
    can't be resumed: its ``fit(X)`` begins another training, from its weights. After
    Ctrl-C, too, `fit` returns, with a warning. The file, unlike the model that `fit`
    returns, can then be used to resume the training exactly.

    Use a path for one fit only. The fits of a hyper-parameter search would overwrite
    each other's file, since clones share their callbacks. In a pipeline, set the
    callback of the step. `partial_fit` calls no callbacks; save its models yourself.

    In `skcae.distributed.data_parallel`, set a checkpoint in each process. Only rank 0
    writes its file. To resume, all processes load that file, or copies of it.

    With `ContractiveAutoencoderClassifier`, the checkpoint saves a classifier after
    each epoch of fine-tuning. The classifier can predict, but its training can't be
    resumed. If the autoencoder's training takes long, fit the autoencoder with a
    checkpoint and pass it to the classifier as ``FrozenEstimator``.

    The file is replaced as a whole: however a process ends, the file holds the last
    epoch that was saved. A process that is killed while it writes leaves a partial file
    beside it, whose name ends in ``.tmp``.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Only load files that you trust: loading a pickle runs code.

    Raises
    ------
    ValueError
        When a fit begins, if the estimator is a transformer with ``warm_start=False``
        or has no epochs, such as a pipeline.
    OSError
        When a fit begins or an epoch ends, if the file can't be written, for example
        FileNotFoundError if its folder doesn't exist. `fit` raises the error, and
        leaves the estimator as it was.

    Warns
    -----
    UserWarning
        When the fit of a classifier begins, as its training can't be resumed.

    Examples
    --------
    If this script is killed, by a power failure for example, run it again to resume the
    training. It sets the callback in any case, since callbacks are not saved. After
    Ctrl-C or too few epochs, `fit` warns. The script turns these warnings into errors,
    so that it ends before it deletes the file:

    >>> import pickle
    >>> import warnings
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.callbacks import Checkpoint
    >>> X = load_digits().data / 16
    >>> path = Path("cae.pickle")
    >>> if path.exists():
    ...     cae = pickle.loads(path.read_bytes())
    ... else:
    ...     cae = ContractiveAutoencoderTransformer(
    ...         tol=0.1, warm_start=True, random_state=0
    ...     )
    >>> if hasattr(cae, "set_callbacks"):  # scikit-learn 1.9 or newer
    ...     cae = cae.set_callbacks(Checkpoint(path))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", UserWarning)
    ...     cae = cae.fit(X)
    >>> path.unlink(missing_ok=True)
    """

    def __init__(self, path):
        self.path = Path(path)

    def setup(self, estimator, context):
        """Check that training can be resumed from the file, and that it can be written.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            The task of the fit.
        """
        name = type(estimator).__name__
        if not isinstance(estimator, _WITH_EPOCHS):
            raise ValueError(
                "Checkpoint must be a callback of a ContractiveAutoencoderTransformer, "
                f"such as a pipeline's step, as it saves epochs. Got {name} instead, "
                "which has none."
            )
        if not hasattr(estimator, "warm_start"):
            warnings.warn(
                f"A {name} that Checkpoint saves can predict, but its training can't "
                "go on."
            )
        elif not estimator.warm_start:
            raise ValueError(
                "Checkpoint requires warm_start=True, without which the training of a "
                f"saved {name} can't go on. Got warm_start={estimator.warm_start!r} "
                "instead."
            )
        if current_group().rank > 0:
            return
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(self.path.parent)!r} for the checkpoint "
                f"{self.path.name!r}."
            )
        if self.path.is_dir():
            raise IsADirectoryError(
                f"The path of the checkpoint must be that of a file. {str(self.path)!r}"
                " is a folder."
            )
        # This raises an error if the folder is read-only.
        self._part.touch()
        self._part.unlink(missing_ok=True)

    def teardown(self, estimator, context):
        """Do nothing.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            The task of the fit.
        """

    def on_fit_task_begin(self, estimator, context):
        """Do nothing.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            The task that begins.
        """

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Save the model if the task is an epoch.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            The task that ends.
        fitted_estimator : estimator instance or None, default=None
            A copy of the estimator, fitted as if training had ended with this task.
        """
        if context.task_name != "epoch" or current_group().rank > 0:
            return
        part = self._part
        try:
            with part.open("wb") as file:
                _Pickler(file).dump(fitted_estimator)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @property
    def _part(self):
        # Other processes may save their models at the same time.
        return self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
