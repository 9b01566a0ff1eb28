"""What scikit-learn calls while a model is fitted (from version 1.9 on)."""

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
    """Leaves out the callbacks of all estimators, those inside of others too.

    They may hold what can't be saved: files, threads, connections.
    """

    def reducer_override(self, value):
        if isinstance(value, BaseEstimator):
            return without_callbacks(value).__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        return NotImplemented


class Checkpoint:
    """Save the model after each epoch, so that a killed training can go on.

    Pass it to ``set_callbacks`` of `ContractiveAutoencoderTransformer` with
    ``warm_start=True``. What it saves is a pickle of the model, fitted as if training
    had ended with that epoch. Loaded again, its ``fit(X)`` goes on exactly, with
    ``max_iter`` more epochs to go; for no more than ``total`` in all, call
    ``set_params(max_iter=total - model.n_iter_)`` before, unless that is 0: the file
    then holds the result. `partial_fit` calls no callbacks, this one included: save
    what it leaves yourself.

    When training has converged, the file has served its purpose: delete or rename it.
    A model that had converged has nothing to go on with: its ``fit(X)`` begins another
    training, from its weights. After Ctrl-C `fit` returns as well, with a warning; the
    file is what can go on exactly then.

    A path is for one fit: those of a search, whose clones share their callbacks, would
    overwrite each other's file. In a pipeline it goes on the step.

    In `skcae.distributed.data_parallel` each process sets one, and rank 0 writes its
    file for all. To go on, all of them load that one, or copies of it.

    With `ContractiveAutoencoderClassifier` it saves a classifier after each epoch of
    fine-tuning, to predict with; that can't go on. Where the autoencoder's training is
    what takes long, fit that with a checkpoint, and pass it on as ``FrozenEstimator``.

    The file is replaced as a whole: however a process dies, the file is that of the
    last epoch that was saved. A process that is killed while it writes leaves its
    part of the next one beside it, in a file that ends in ``.tmp``.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Only load files that you trust: loading a pickle runs code.

    Raises
    ------
    ValueError
        When the fit begins, of a transformer with ``warm_start=False`` or of something
        that has no epochs, such as a pipeline.
    OSError
        When the fit begins or an epoch ends, if the file can't be written:
        FileNotFoundError, for example, if its folder doesn't exist. `fit` then raises
        it, and leaves the estimator as it was.

    Warns
    -----
    UserWarning
        When the fit of a classifier begins: it can't go on later.

    Examples
    --------
    Run again after it was killed, by a power failure say, this goes on where it was
    (callbacks are not saved, so it sets them in any case). Ctrl-C and too few epochs
    warn; as errors, these warnings end it before it deletes the file:

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
        """Check that training can go on from the file, and that it can be written.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            Its task.
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
                f"What Checkpoint saves of a {name} can predict, but its training "
                "can't go on."
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
        # The folder may be one to read only.
        self._part.touch()
        self._part.unlink(missing_ok=True)

    def teardown(self, estimator, context):
        """Do nothing.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            Its task.
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
        # Of this process: others may save theirs at the same time.
        return self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
