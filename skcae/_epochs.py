"""The epochs of a fit: when to stop, what to record, and what to print."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from .engine.device import memory_errors

# Progress is judged over windows of about this many steps. The learning rate is
# constant for at least these numbers of steps and of epochs.
_WINDOW_STEPS = 16
_LEAST_STEPS = 160
_LEAST_EPOCHS = 5

# After this many epochs the learning rate begins to fall in any case, so that training
# ends within the default of max_iter.
_MOST_EPOCHS = 240


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


class Schedule:
    """Keeps the learning rate while there is progress, then lets it fall to zero.

    A window of a few epochs shows progress if its mean of the watched loss is below the
    best earlier mean by more than a given fraction of it. After ``patience`` windows
    without progress, the rate falls linearly to zero, over as many epochs as it was
    constant. Then training has converged. (Wen et al., "Understanding
    Warmup-Stable-Decay Learning Rates", 2024, explain why the loss falls most while the
    rate falls.)

    Parameters
    ----------
    tol : float
        Relative improvement that counts as progress. Unless it is 0, the rate begins to
        fall after 240 epochs in any case.
    patience : int
        Number of windows to wait for progress.
    negligible : float
        An improvement by less than ``tol`` times this number is not progress.
    n_batches : int
        Number of steps of an epoch.
    **state
        The result of `state` of an earlier schedule, to continue it.
    """

    def __init__(
        self,
        tol,
        patience,
        negligible,
        n_batches,
        *,
        best=np.inf,
        n_waited=0,
        window=(),
        n_epochs=0,
        n_constant=None,
    ):
        self.tol = tol
        self.patience = patience
        self.negligible = negligible
        self.window_epochs = max(1, round(_WINDOW_STEPS / n_batches))
        self.least_epochs = max(_LEAST_EPOCHS, -(-_LEAST_STEPS // n_batches))
        self.best = best
        self.n_waited = n_waited
        self.window = list(window)
        self.n_epochs = n_epochs
        self.n_constant = n_constant

    def update(self, value):
        """Take the newest value of the watched loss."""
        self.n_epochs += 1
        if self.n_constant is not None:
            return
        self.window.append(float(value))
        if len(self.window) == self.window_epochs:
            mean = sum(self.window) / len(self.window)
            self.window = []
            needed = self.tol * max(abs(self.best), self.negligible)
            if np.isinf(self.best) or mean < self.best - needed:
                self.best, self.n_waited = mean, 0
            else:
                self.n_waited += 1
        is_over = self.n_waited >= self.patience
        if self.tol > 0:
            is_over |= self.n_epochs >= _MOST_EPOCHS
        if is_over and self.n_epochs >= self.least_epochs:
            self.n_constant = self.n_epochs

    @property
    def factor(self):
        """Factor of the initial learning rate in the next epoch."""
        if self.n_constant is None:
            return 1.0
        return max(0.0, 2 - (self.n_epochs + 0.5) / self.n_constant)

    @property
    def converged(self):
        return self.n_constant is not None and self.n_epochs >= 2 * self.n_constant

    def state(self):
        return {
            "best": float(self.best),
            "n_waited": self.n_waited,
            "window": tuple(self.window),
            "n_epochs": self.n_epochs,
            "n_constant": self.n_constant,
        }


class Progress(NamedTuple):
    """The progress of a training, replaced as a whole so that it is always consistent.

    Attributes
    ----------
    n_epochs : int
        Number of finished epochs of this call. Curves may have one value more, of an
        interrupted epoch.
    kept : object
        Snapshot of the parameters to return.
    lowest : float
        The watched loss of the snapshot.
    """

    n_epochs: int
    kept: object
    lowest: float


class Training:
    """A training in progress, epoch by epoch.

    Parameters
    ----------
    trainer : Trainer or FineTuner
    schedule : Schedule
    names : sequence of str
        Names of the curves to record besides "objective": terms of the objective, and
        "validation_loss".
    validation : object, default=None
        Held-out data. If given, the watched loss is
        ``trainer.mean_objective(validation)`` instead of the training objective.
    kept, lowest : default=None, np.inf
        The snapshot to return if no epoch is better, and its watched loss.
    earlier : dict of str to ndarray, default=None
        The curves of earlier calls that this one continues.
    verbose : bool, default=False
        Whether to print the curves' values after each epoch.
    fingerprint : str, default=""
        Fingerprint of the data and the settings. A fit resumes this training only if
        its fingerprint is the same.
    """

    def __init__(
        self,
        trainer,
        schedule,
        names,
        *,
        validation=None,
        kept=None,
        lowest=np.inf,
        earlier=None,
        verbose=False,
        fingerprint="",
    ):
        self.trainer = trainer
        self.fingerprint = fingerprint
        self.schedule = schedule
        self.validation = validation
        self.verbose = verbose
        self.progress = Progress(
            0, trainer.snapshot() if kept is None else kept, lowest
        )
        self._earlier = dict(earlier or {"objective": np.empty(0)})
        n_earlier = len(self._earlier["objective"])
        for name in names:
            self._earlier.setdefault(name, np.full(n_earlier, np.nan))
        self._curves = {name: [] for name in self._earlier}
        trainer.scale_learning_rate(schedule.factor)

    def epoch(self):
        """Train for one epoch; return the watched loss."""
        trainer = self.trainer
        report = trainer.epoch()
        loss = report.objective
        values = {**report.terms, "objective": loss, "validation_loss": np.nan}
        if self.validation is not None:
            values["validation_loss"] = loss = trainer.mean_objective(self.validation)
        n_epochs, kept, lowest = self.progress
        if self.validation is None or loss < lowest:
            kept, lowest = trainer.snapshot(), loss
        for name, curve in self._curves.items():
            curve.append(values.get(name, np.nan))
        self.progress = Progress(n_epochs + 1, kept, lowest)
        if self.verbose:
            values["learning_rate"] = trainer.current_learning_rate
            text = ", ".join(
                f"{name} = {values[name]:.6g}"
                for name in [*self._curves, "learning_rate"]
                if name in values
            )
            print(f"Epoch {len(self._earlier['objective']) + n_epochs + 1}: {text}")
        trainer.share_generators()
        return loss

    def run(self, max_iter, explained, begin, end):
        """Train until a reason to stop occurs; return the name of the reason.

        Parameters
        ----------
        max_iter : int
            The largest number of epochs.
        explained : callable
            ``explained()`` is the context that explains errors of training, as
            `explained_failure` does.
        begin, end : callable
            Called before and after each epoch, outside of that context. ``end(task)``
            gets the result of ``begin()``, and returns whether to stop.
        """
        group = self.trainer.group
        try:
            for _ in range(max_iter):
                task = begin()
                # An error in another process's callback raises here, outside of
                # `explained`: it is not a failure of training.
                group.gather()
                with explained():
                    loss = self.epoch()
                self.schedule.update(loss)
                self.trainer.scale_learning_rate(self.schedule.factor)
                if any(group.gather(bool(end(task)))):
                    return "callback"
                if self.schedule.converged:
                    return "convergence"
        except KeyboardInterrupt as error:
            # The other processes know of any interrupt except one in a callback.
            group.tell(error)
            if self.progress.n_epochs == 0:
                raise
            return "interrupt"
        return "max_iter"

    def curves(self):
        """Return the curves over all calls, a dict of arrays."""
        n_epochs = self.progress.n_epochs
        return {
            name: np.concatenate([earlier, self._curves[name][:n_epochs]])
            for name, earlier in self._earlier.items()
        }


def run_with_callbacks(training, estimator, context, explained, X, y):
    """Run a training, each epoch of which is a task for the estimator's callbacks.

    Parameters
    ----------
    training : Training
    estimator : estimator instance
        With ``max_iter`` and ``_fitted_attributes(training)``.
    context : sklearn.callback.CallbackContext
        The task of the whole fit.
    explained : callable
        As in `Training.run`.
    X, y
        Data for callbacks.

    Returns
    -------
    why : str
        As from `Training.run`.
    """

    def begin():
        task = context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        return task

    def end(task):
        return task.call_on_fit_task_end(
            estimator=estimator,
            X=X,
            y=y,
            reconstruction_attributes=lambda: estimator._fitted_attributes(training),
        )

    return training.run(estimator.max_iter, explained, begin, end)


@contextmanager
def explained_failure(diverged, out_of_memory):
    """Turn failures of training into errors that say what to change.

    Parameters
    ----------
    diverged : callable
        ``diverged(error)`` is the message of the ValueError that replaces a
        FloatingPointError.
    out_of_memory : str
        The message of a MemoryError.
    """
    try:
        with memory_errors(out_of_memory):
            yield
    except FloatingPointError as error:
        raise ValueError(diverged(error)) from error


def to_lower(estimator, **in_use):
    """Return the names and values of the parameters in use, for a message."""
    texts = [
        f"{name} ({getattr(estimator, name)})" for name, used in in_use.items() if used
    ]
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def steps_batch_size(batch_size, n_samples):
    """Return the number of samples of a step, for ``batch_size`` an int or "auto"."""
    if batch_size != "auto":
        return int(batch_size)
    # Enough rows for efficient matrix products, but at least 16 steps an epoch. Small
    # data sets have fewer steps, since a steady gradient needs at least 16 rows.
    return int(np.clip(n_samples // 16, 16, 1024))
