"""What scikit-learn calls while a model is fitted (from version 1.9 on)."""

import os
import pickle
from pathlib import Path

from ._compat import without_callbacks

__all__ = ["Checkpoint"]


class Checkpoint:
    """Save the model after each epoch, so that a killed training can go on.

    Pass it to ``set_callbacks`` of `ContractiveAutoencoderTransformer` with
    ``warm_start=True``. What it saves is a pickle of the model, fitted as if training
    had ended with that epoch. Loaded again, its ``fit(X)`` goes on exactly, with
    ``max_iter`` more epochs to go.

    The file is replaced as a whole: however a process dies, the file is that of the
    last epoch that was saved. A process that is killed while it writes leaves its
    part of the next one beside it, in a file that ends in ``.tmp``.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Only load files that you trust: loading a pickle runs code.

    Raises
    ------
    FileNotFoundError
        When the fit begins, if the folder of ``path`` doesn't exist.
    OSError
        When an epoch ends, if the file can't be written. As with any error in a
        callback, `fit` then raises it, and leaves the estimator as it was.

    Examples
    --------
    Run again after it was stopped, whether by Ctrl-C or by a power failure, this
    goes on where it was (callbacks are not saved, so it sets them in any case):

    >>> import pickle
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
    >>> cae = cae.fit(X)
    >>> path.unlink(missing_ok=True)
    """

    def __init__(self, path):
        self.path = Path(path)

    def setup(self, estimator, context):
        """Check that the file can be written before training begins.

        Parameters
        ----------
        estimator : estimator instance
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            Its task.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(self.path.parent)!r} for the checkpoint "
                f"{self.path.name!r}."
            )

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
        if context.task_name != "epoch":
            return
        # They may hold what can't be saved: files, threads, connections.
        model = without_callbacks(fitted_estimator)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with part.open("wb") as file:
                pickle.dump(model, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
