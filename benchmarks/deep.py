"""What brings the objective of a deep encoder lowest in a given time?

    python benchmarks/deep.py --data path/to/mnist.npz

Numbers of random projections that estimate the penalty in training; and a start whose
layers were trained one by one, in half of the same time. It prints the exact objective
on 300 rows after half and all of a budget of CPU seconds, in one thread, so that other
processes matter little.
"""

import argparse
import time
from pathlib import Path

import report
import torch
from problem import load_data
from study import CPU, Cooled, default_batch_size

from skcae.engine.inference import code, map_rows
from skcae.engine.network import Architecture, Parameters
from skcae.engine.objective import objective
from skcae.engine.training import Trainer

LAMS = (0.01, 0.1)
CANDIDATES = {
    "1 projection (default)": {},
    "4 projections": {"n_projections": 4},
    "16 projections": {"n_projections": 16},
    "exact": {"n_projections": None},
    "1 projection, layers trained before": {"layerwise": True},
}


def data_sets(mnist):
    """Yield name, data, n_hidden and the budget in seconds."""
    yield "digits", load_data("digits", None, None), (64, 32), 8
    yield "mnist, 4,000 rows", load_data("mnist", 4000, None, mnist), (256, 64), 40


def make_trainer(X, n_hidden, tied, lam, n_projections=1, arrays=None):
    return Trainer(
        Architecture((X.shape[1], *n_hidden), tied=tied),
        X,
        arrays,
        loss="squared_error",
        lam=lam,
        learning_rate=0.05,
        batch_size=default_batch_size(X),
        precision="float32",
        device=CPU,
        seed=0,
        n_projections=n_projections,
    )


def layers_trained(X, n_hidden, tied, lam, seconds):
    """Return parameters of layers trained one by one, for the same time each."""
    layers = []
    for size in n_hidden:
        trainer = make_trainer(X, (size,), tied, lam)
        schedule = Cooled(trainer)
        start = time.process_time()
        while time.process_time() - start < seconds / len(n_hidden):
            schedule.update(trainer.epoch().objective)
        arrays = trainer.arrays()
        layers.append([group[0] for group in arrays])
        X = map_rows(code, trainer.architecture, arrays, X, device=CPU)
    W, b, V, c = map(list, zip(*layers, strict=True))
    return Parameters(W, b, V[::-1], c[::-1])


def exact_objective(trainer, X, lam):
    """Return the mean objective on about 300 rows, without projections."""
    x = torch.tensor(X[:: len(X) // 300])
    parameters = trainer.architecture.view(trainer.gradient.flat)
    terms = objective(trainer.architecture, parameters, x, lam=lam)
    return (terms.reconstruction + lam * terms.contraction).mean().item()


def objectives(X, n_hidden, tied, lam, budget, *, layerwise=False, n_projections=1):
    """Return the exact objective after half of the budget and after all of it."""
    start = time.process_time()
    arrays = None
    if layerwise:
        arrays = layers_trained(X, n_hidden, tied, lam, budget / 2)
    trainer = make_trainer(X, n_hidden, tied, lam, n_projections, arrays)
    schedule = Cooled(trainer)
    values = []
    for seconds in (budget / 2, budget):
        n_epochs = 0
        while time.process_time() - start < seconds:
            schedule.update(trainer.epoch().objective)
            n_epochs += 1
        # Before the first one there is nothing to compare.
        values.append(exact_objective(trainer, X, lam) if n_epochs else float("nan"))
    return values


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
    columns = [(tied, lam) for tied in (True, False) for lam in LAMS]
    header = ["", *(f"{'tied' if t else 'untied'}, lam={lam}" for t, lam in columns)]
    for name, X, n_hidden, budget in data_sets(args.data):
        budget *= 0.1 if args.quick else 1
        rows = []
        for candidate, parameters in CANDIDATES.items():
            results = [
                objectives(X, n_hidden, tied, lam, budget, **parameters)
                for tied, lam in columns
            ]
            rows.append([candidate, *(f"{a:.3f} / {b:.3f}" for a, b in results)])
            content["cases"] += [
                {"data": name, "candidate": candidate, "tied": tied, "lam": lam}
                | {"budget": budget, "objectives": values}
                for (tied, lam), values in zip(columns, results, strict=True)
            ]
        print(f"\n{name}, n_hidden {n_hidden}, after {budget / 2:g} / {budget:g} s\n")
        print(report.table(header, rows), flush=True)
    report.write_json(args.output, "deep", content)


if __name__ == "__main__":
    main()
