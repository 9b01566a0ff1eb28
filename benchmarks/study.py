"""How low do initialisations and optimisers bring the objective in a given time?

    python benchmarks/study.py --data path/to/mnist.npz

The objective of the last epoch, relative to the lowest that any of them reached, after
fractions of a budget of CPU seconds; one thread, so that other processes matter little.
The library's defaults were chosen by this.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import report
import torch
from problem import LAM, glorot, load_data
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from skcae._epochs import Schedule
from skcae.engine.network import Architecture, Parameters
from skcae.engine.training import Trainer

FRACTIONS = (0.1, 0.3, 1.0)
CPU = torch.device("cpu")


def tabular(n_samples=5000, seed=0):
    """Ten continuous and two one-hot encoded columns, as in the covtype data."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_samples, 3))
    continuous = np.tanh(hidden @ rng.normal(size=(3, 10)))
    continuous += 0.3 * rng.normal(size=continuous.shape)
    columns = [continuous]
    for n_levels in (40, 4):
        scores = hidden @ rng.normal(size=(3, n_levels))
        levels = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
        columns.append(np.eye(n_levels)[levels])
    return StandardScaler().fit_transform(np.hstack(columns))


def data_sets(mnist):
    """Yield name, data, n_hidden and the budget in seconds."""
    yield "digits", load_data("digits", None, None), 64, 1.5
    cancer = StandardScaler().fit_transform(load_breast_cancer().data)
    yield "breast cancer", cancer.astype(np.float32), 64, 1
    yield "tabular", tabular().astype(np.float32), 64, 3
    yield "mnist, 10,000 rows", load_data("mnist", 10_000, None, mnist), 256, 20


class Cooled:
    """The learning rate schedule of `fit`."""

    def __init__(self, trainer):
        self.trainer = trainer
        negligible = 0.01 * trainer.variance
        self.schedule = Schedule(0.02, 3, negligible, trainer.batches.n_batches)

    def update(self, value):
        self.schedule.update(value)
        self.trainer.scale_learning_rate(self.schedule.factor)


def default_batch_size(X, largest=1024):
    """Return the batch size of `fit`."""
    return int(np.clip(len(X) // 16, 16, largest))


def make_trainer(X, n_hidden, tied, seed=0, start=None, **parameters):
    batch_size = default_batch_size(X, parameters.pop("largest_batch", 1024))
    settings = {"batch_size": batch_size, "learning_rate": 0.05, "optimizer": "muon"}
    arrays = None
    if start == "glorot":
        arrays = Parameters(*([a] for a in glorot(X.shape[1], n_hidden, seed)))
    return Trainer(
        Architecture((X.shape[1], n_hidden), tied=tied),
        X,
        arrays,
        loss="squared_error",
        lam=LAM,
        precision="float32",
        device=CPU,
        seed=seed,
        **settings | parameters,
    )


def stochastic(X, n_hidden, tied, budget, **parameters):
    """Return the lowest objective of an epoch within fractions of the budget."""
    trainer = make_trainer(X, n_hidden, tied, **parameters)
    schedule = Cooled(trainer)
    seconds, values = [], []
    start = time.process_time()
    while True:
        epoch = trainer.epoch()
        seconds.append(time.process_time() - start)
        values.append(epoch.objective)
        schedule.update(epoch.objective)
        if seconds[-1] > budget:
            return lowest(seconds, values, budget)


def lbfgs(X, n_hidden, tied, budget):
    """The same for SciPy's L-BFGS on all rows at once."""
    trainer = make_trainer(X, n_hidden, tied, batch_size=len(X))
    gradient, rows = trainer.gradient, torch.tensor(X)
    seconds, values = [], []
    start = time.process_time()

    def function(flat):
        gradient.flat.copy_(torch.tensor(flat))
        with torch.no_grad():
            value = gradient.total(gradient(rows)).item() / len(X)
        seconds.append(time.process_time() - start)
        values.append(value)
        if seconds[-1] > budget:
            raise TimeoutError
        return value, gradient.gradient.double().numpy()

    options = {"maxiter": 10**6, "maxfun": 10**7, "ftol": 0, "gtol": 0, "maxcor": 20}
    try:
        first = gradient.flat.double().numpy().copy()
        minimize(function, first, jac=True, method="L-BFGS-B", options=options)
    except TimeoutError:
        pass
    return lowest(seconds, values, budget)


def lowest(seconds, values, budget):
    return [
        min(
            (v for s, v in zip(seconds, values, strict=True) if s <= f * budget),
            default=float("nan"),
        )
        for f in FRACTIONS
    ]


CANDIDATES = {
    "muon 0.05 (default)": {},
    "muon 0.02": {"learning_rate": 0.02},
    "muon 0.1": {"learning_rate": 0.1},
    "muon 0.05, batch <= 256": {"largest_batch": 256},
    "muon 0.05, Glorot start": {"start": "glorot"},
    "adam 0.05": {"optimizer": "adam"},
    "adam 0.02": {"optimizer": "adam", "learning_rate": 0.02},
    "adam 0.05, Glorot start": {"optimizer": "adam", "start": "glorot"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz with x_train; default openml.org")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = {"environment": report.environment(), "cases": []}
    for name, X, n_hidden, budget in data_sets(args.data):
        budget *= 0.1 if args.quick else 1
        for tied in (True, False):
            results = {
                candidate: stochastic(X, n_hidden, tied, budget, **parameters)
                for candidate, parameters in CANDIDATES.items()
            }
            results["L-BFGS, all rows"] = lbfgs(X, n_hidden, tied, budget)
            best = np.nanmin(list(results.values()))
            kind = "tied" if tied else "untied"
            print(
                f"\n{name}, n_hidden {n_hidden}, {kind}; lowest objective {best:.4g}\n"
            )
            header = ["", *(f"after {f * budget:g} s" for f in FRACTIONS)]
            rows = [[k, *(f"{v / best:.2f}" for v in vs)] for k, vs in results.items()]
            print(report.table(header, rows), flush=True)
            content["cases"].append(
                {"data": name, "tied": tied, "budget": budget, "objectives": results}
            )
    report.write_json(args.output, "study", content)


if __name__ == "__main__":
    main()
