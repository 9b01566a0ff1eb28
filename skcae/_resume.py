"""How a fit continues an earlier one: exactly, from its parameters, or not at all."""

from dataclasses import dataclass

import joblib
import numpy as np

from ._epochs import Schedule, Training
from ._validation import plain
from .engine.network import Parameters
from .engine.penalties import PARAMETERS

# Parameters whose values a stopped training and the fit that resumes it must share.
_RESUMES_WITH = (
    *PARAMETERS,
    "alpha",
    "corruption",
    "corruption_level",
    "loss",
    "n_projections",
    "solver",
    "learning_rate_init",
    "batch_size",
    "early_stopping",
    "validation_fraction",
    "precision",
)

# Parameters that may differ between the processes of a data-parallel fit.
_PER_PROCESS = ("device", "random_state", "verbose")

# Below this fraction of the variance, progress is measured relative to that fraction
# instead of the objective.
_GOOD_ENOUGH = 0.01


@dataclass
class Past:
    """The results of an earlier fit that the new fit may continue.

    Attributes
    ----------
    fingerprint : str
        Fingerprint of the data and the settings of the new fit.
    state : dict or None
        The result of `state_of` for the earlier fit.
    resumes : bool
        Whether the new fit resumes the earlier one exactly.
    restores : bool
        Whether the new fit takes over the earlier optimiser's memory.
    only_these_rows : bool
        Whether the model is trained on no other rows than those of the new fit.
    fitted : Parameters or None
        The parameters of the earlier fit.
    curves : dict of ndarray or None
        The curves of the earlier fit.
    """

    fingerprint: str
    state: dict | None = None
    resumes: bool = False
    restores: bool = False
    only_these_rows: bool = False
    fitted: Parameters | None = None
    curves: dict | None = None

    def training(self, trainer, names, *, tol, patience, validation, verbose):
        """Return the `Training` to run, where the earlier one ended."""
        if self.restores and not trainer.can_restore(self.state["trainer"]):
            self.resumes = self.restores = False
        kept = trainer.snapshot(self.fitted)
        if self.restores:
            trainer.restore(self.state["trainer"])
        if self.resumes and self.state["snapshots"] is not None:
            kept = trainer.resume_at(*self.state["snapshots"])
        if validation is not None:
            validation = trainer.held_out(*validation)
        lowest = np.inf
        if self.resumes:
            lowest = self.state["lowest"]
        elif self.fitted is not None and validation is not None:
            lowest = trainer.mean_objective(validation)
        schedule = Schedule(
            tol,
            patience,
            # Below the first of these the model is good enough; below the second its
            # error is mere rounding.
            negligible=max(
                _GOOD_ENOUGH * trainer.variance,
                float(np.finfo(np.float32).eps) * trainer.mean_square,
            ),
            n_batches=trainer.batches.n_batches,
            **(self.state["schedule"] if self.resumes else {}),
        )
        return Training(
            trainer,
            schedule,
            names,
            validation=validation,
            kept=kept,
            lowest=lowest,
            earlier=self.curves,
            verbose=verbose,
            fingerprint=self.fingerprint,
        )


def past_of(estimator, rows, weights, group, continues, keeps_optimizer):
    """Return the `Past` of a fit of an estimator to some rows.

    A stopped training is resumed only with the same data and settings. With
    ``keeps_optimizer`` the optimiser's memory is taken over for other data too.
    """
    fingerprint = _fingerprint(estimator, rows, weights, group)
    state = estimator._training_state if continues else None
    is_known = state is not None and state["fingerprint"] != ""
    resumes = is_known and state["fingerprint"] == fingerprint
    # With partial_fit, rows outside of a smaller space may follow.
    resumes = resumes and (state["is_whole"] or not keeps_optimizer)
    restores = resumes or bool(
        state
        and keeps_optimizer
        and state["is_whole"]
        and state["solver"] == estimator.solver
    )
    # All processes must do the same.
    resumes, restores = map(all, zip(*group.gather((resumes, restores)), strict=True))
    if estimator.verbose and is_known and not (resumes or keeps_optimizer):
        print(
            "The data or settings aren't those of the training that was stopped: "
            "starting from its parameters at the initial learning rate"
        )
    if not continues:
        return Past(fingerprint, only_these_rows=not keeps_optimizer)
    return Past(
        fingerprint,
        state,
        resumes,
        restores,
        resumes and not state["is_whole"],
        estimator._arrays,
        {"objective": estimator.loss_curve_, **estimator.history_},
    )


def state_of(estimator, training):
    """Return the state that a later call needs to resume the training exactly."""
    trainer = training.trainer
    snapshots = None
    # The fitted attributes may differ from the parameters of the last epoch: with early
    # stopping they are those of an earlier epoch, and in a smaller space they are
    # rounded when they are mapped to all features.
    if estimator.early_stopping or not trainer.space.is_whole:
        flats = trainer.snapshot(), training.progress.kept
        snapshots = [flat.cpu().numpy() for flat in flats]
    return {
        "solver": estimator.solver,
        "trainer": trainer.state(),
        "snapshots": snapshots,
        "is_whole": trainer.space.is_whole,
        "lowest": float(training.progress.lowest),
        "schedule": training.schedule.state(),
        "fingerprint": training.fingerprint,
    }


def _fingerprint(estimator, rows, weights, group):
    """Identify the data and the settings, or nothing if no fit resumes another.

    It is empty if ``warm_start=False``. It is the same on all ranks, so that they all
    can resume from the model that one of them has saved.
    """
    if not estimator.warm_start:
        return ""
    settings = [plain(getattr(estimator, name)) for name in _RESUMES_WITH]
    data = rows.shape, rows.dtype.str, rows.identity(), weights
    own = joblib.hash([*data, settings])
    return " ".join(group.gather(own))


def agreed_n_samples(estimator, rows, group, n_earlier_epochs):
    """Return the number of rows of all processes.

    Raise ValueError if the parameters or the data of the processes don't agree.
    """
    sizes = group.gather(len(rows))
    if group.size > 1:
        own = {
            name: repr(plain(value))
            for name, value in estimator.get_params(deep=False).items()
            if name not in _PER_PROCESS
        }
        own["n_hidden"] = estimator._hidden_sizes()
        own["number of features"] = rows.shape[1]
        own["feature names"] = list(getattr(estimator, "feature_names_in_", []))
        own["number of earlier epochs"] = n_earlier_epochs
        first, *others = group.gather(own)
        for rank, other in enumerate(others, start=1):
            for name, value in first.items():
                if other[name] != value:
                    raise ValueError(
                        f"The processes of a data-parallel fit differ: {name} is "
                        f"{value} on rank 0, but {other[name]} on rank {rank}."
                    )
    return sum(sizes)


def check_same_architecture(estimator, architecture):
    """Raise ValueError if ``architecture`` isn't that of the fitted estimator."""
    names = {
        "sizes": "n_hidden",
        "activation": "activation",
        "output_activation": "output_activation",
        "tied": "tied_weights",
    }
    for field, name in names.items():
        before = getattr(estimator._fitted_architecture, field)
        now = getattr(architecture, field)
        if now != before:
            if field == "sizes":
                before = before[1:] if len(before) > 2 else before[1]
            raise ValueError(
                f"{name} can't change when training continues (partial_fit, or "
                f"fit with warm_start=True). Got {getattr(estimator, name)!r}, but the "
                f"model was fitted with {before!r}. To start anew, call fit with "
                "warm_start=False."
            )
