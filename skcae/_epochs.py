"""What estimators do with the epochs that the engine's training loop reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .engine.device import memory_errors

# The learning rate is multiplied by the factor each time that the objective stops
# improving; after the last reduction, training has converged.
_REDUCTION_FACTOR = 0.3
_N_REDUCTIONS = 3


@contextmanager
def all_or_nothing(estimator):
    """Restore all attributes if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class Plateau:
    """Counts epochs without improvement; says when to slow down and when to stop.

    Parameters
    ----------
    tol : float
        Relative improvement that counts as one.
    patience : int
        Number of epochs to wait for it.
    negligible : float
        An improvement by less than ``tol`` times this counts as none in any case.
    """

    def __init__(
        self, tol, patience, negligible, *, best=np.inf, n_waited=0, n_reductions=0
    ):
        self.tol = tol
        self.patience = patience
        self.negligible = negligible
        self.best = best
        self.n_waited = n_waited
        self.n_reductions = n_reductions

    def update(self, value):
        """Take the newest value of the watched loss."""
        needed = self.tol * max(abs(self.best), self.negligible)
        if np.isinf(self.best) or value < self.best - needed:
            self.best = value
            self.n_waited = 0
            return
        self.n_waited += 1
        if self.n_waited >= self.patience:
            self.n_waited = 0
            self.n_reductions += 1

    @property
    def factor(self):
        """Factor of the initial learning rate."""
        return _REDUCTION_FACTOR ** min(self.n_reductions, _N_REDUCTIONS)

    @property
    def converged(self):
        return self.n_reductions > _N_REDUCTIONS

    def state(self):
        return {
            "best": float(self.best),
            "n_waited": self.n_waited,
            "n_reductions": self.n_reductions,
        }


class Progress(NamedTuple):
    """What a training has come to, replaced as a whole so that it always fits."""

    n_epochs: int  # of this call; curves may be longer by an interrupted one
    kept: object  # snapshot of the parameters to return
    lowest: float  # the watched loss of the snapshot


@dataclass
class Training:
    """A training that runs: what `fit` keeps from one epoch to the next."""

    trainer: object  # with the interface of the engine's `TrainingRun`
    reports: Iterator
    plateau: Plateau
    progress: Progress
    curves: dict  # name → values of this call, one per epoch
    earlier_curves: dict  # name → array of the values of earlier calls
    fingerprint: str = ""  # of the data and the settings

    @property
    def n_epochs(self):
        """Number of epochs over all calls."""
        return len(self.earlier_curves["objective"]) + self.progress.n_epochs


class EpochsMixin:
    """Runs a `Training`, epoch by epoch, for an estimator that can be verbose.

    The estimator has ``batch_size``, ``max_iter`` and ``verbose``, and
    ``_fitted_attributes(training)``; and the words for what can go wrong on data X,
    ``_diverged(X, error)`` and ``_out_of_memory(X)``.
    """

    def _run_epochs(self, training, data, validation_data, context, X, y):
        """Train until it is enough; return why: the name of what ended it.

        ``data`` is what `_explained_failure` needs; X and y are what callbacks get,
        whose own errors are none of the training's.
        """
        try:
            for _ in range(self.max_iter):
                task = context.subcontext(task_name="epoch")
                task.call_on_fit_task_begin(estimator=self, X=X, y=y)
                # What a callback of another process raised is no failure of training.
                training.trainer.group.gather()
                with self._explained_failure(data):
                    loss = self._run_epoch(training, validation_data)
                training.plateau.update(loss)
                training.trainer.scale_learning_rate(training.plateau.factor)
                stop = task.call_on_fit_task_end(
                    estimator=self,
                    X=X,
                    y=y,
                    reconstruction_attributes=lambda: self._fitted_attributes(training),
                )
                if any(training.trainer.group.gather(bool(stop))):
                    return "callback"
                if training.plateau.converged:
                    return "convergence"
        except KeyboardInterrupt as error:
            # Only a callback's is news to the other processes.
            training.trainer.group.tell(error)
            if training.progress.n_epochs == 0:
                raise
            return "interrupt"
        return "max_iter"

    def _run_epoch(self, training, validation_data=None):
        """Train for one epoch; return the loss to watch."""
        report = next(training.reports)
        loss = report.objective
        if validation_data is not None:
            loss = training.trainer.mean_objective(validation_data)
        values = self._values(report)
        values["validation_loss"] = np.nan if validation_data is None else loss
        values = {name: values[name] for name in training.curves}
        n_epochs, kept, lowest = training.progress
        if validation_data is None or loss < lowest:
            kept, lowest = training.trainer.snapshot(), loss
        for name, value in values.items():
            training.curves[name].append(value)
        training.progress = Progress(n_epochs + 1, kept, lowest)
        if self.verbose:
            values["learning_rate"] = training.trainer.current_learning_rate
            text = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
            print(f"Epoch {training.n_epochs}: {text}")
        return loss

    def _values(self, report):
        """Return the values to record, by the name of their curve."""
        return report._asdict()

    @contextmanager
    def _explained_failure(self, X):
        """Raise what fails while training on X as errors that say what to change."""
        try:
            with memory_errors(self._out_of_memory(X)):
                yield
        except FloatingPointError as error:
            raise ValueError(self._diverged(X, error)) from error

    def _to_lower(self, **in_use):
        """Return the names and values of the parameters in use, for a message."""
        texts = [
            f"{name} ({getattr(self, name)})" for name, used in in_use.items() if used
        ]
        return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))

    def _float(self, name):
        """Return the value of a parameter, which may be any real number."""
        try:
            return float(getattr(self, name))
        except OverflowError:
            raise ValueError(
                f"The {name!r} parameter of {type(self).__name__} must be in the range "
                f"of float64. Got an int of {getattr(self, name).bit_length()} bits "
                "instead."
            ) from None

    def _batch_size(self, n_samples):
        if self.batch_size != "auto":
            return int(self.batch_size)
        # Enough rows for the matrix products to be efficient, but at least 16 steps
        # an epoch, and enough rows for a steady gradient where data are few.
        return int(np.clip(n_samples // 16, 16, 1024))
