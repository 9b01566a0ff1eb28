"""The objective against wall time: default settings against 30 epochs of Adam.

    python benchmarks/time_to_quality.py --data path/to/mnist.npz

How long does the library's `fit` take to the objective that plain PyTorch reaches? The
objective is that of the whole training set, evaluated in the same way for both and
outside of the times, which hold everything else: initialisation, validation, training.
"""

import argparse
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import report
from contenders import CONTENDERS, estimator_weights, fit_quietly, make_estimator
from problem import LAM, load_data, objective

PEERS = ("pytorch", "pytorch-tuned")


@dataclass(frozen=True)
class Case:
    """A data set, the model's size, and how long the peers train."""

    name: str
    data: str
    n_samples: int
    n_hidden: int
    n_epochs: int
    batch_size: int = 256  # of the peers


CASES = [
    Case("mnist", "mnist", 60_000, 256, n_epochs=30),
    Case("digits", "digits", 1797, 64, n_epochs=30),
    Case("digits-300", "digits", 1797, 64, n_epochs=300),
]


def evaluate(weights, X):
    """Return the objective, and wait until NumPy's threads have stopped spinning."""
    value = objective(weights, X, LAM)
    time.sleep(0.2)
    return value


def peer_curve(name, X, case, device, seed):
    """Train a peer; return its times and objectives after each epoch."""
    contender = CONTENDERS[name](device, seed)
    seconds, weights = [], []
    spent, start = 0.0, time.perf_counter()
    contender.setup(X, case.n_hidden, case.batch_size, LAM)
    for _ in range(case.n_epochs):
        contender.train(1)
        spent += time.perf_counter() - start
        seconds.append(spent)
        weights.append([array.copy() for array in contender.weights()])
        start = time.perf_counter()
    objectives = [objective(arrays, X, LAM) for arrays in weights[:-1]]
    return {"seconds": seconds, "objective": [*objectives, evaluate(weights[-1], X)]}


class StopAt:
    """scikit-learn callback: record the curve, stop where it reaches the target.

    The clock stands still while the objective is evaluated.
    """

    def __init__(self, X, target):
        self.X, self.target = X, target
        self.seconds, self.objectives = [], []
        self.spent = 0.0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name != "epoch":
            self.start = time.perf_counter()

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name != "epoch":
            return None
        self.spent += time.perf_counter() - self.start
        self.seconds.append(self.spent)
        reached = evaluate(estimator_weights(fitted_estimator), self.X)
        self.objectives.append(reached)
        self.start = time.perf_counter()
        return reached <= self.target


def library_curve(X, case, device, seed, target):
    """Fit with default settings until the target; return times and objectives."""
    callback = StopAt(X, target)
    estimator = make_estimator(case.n_hidden, device, seed, lam=LAM)
    estimator.set_callbacks(callback)
    fit_quietly(estimator, X)
    return {"seconds": callback.seconds, "objective": callback.objectives}


def plain_fit(X, case, device, seed, n_epochs=None):
    """Time one call of `fit`, with nothing attached; n_epochs=None is the default."""
    estimator = make_estimator(case.n_hidden, device, seed, lam=LAM)
    if n_epochs is not None:
        estimator.set_params(max_iter=n_epochs)
    start = time.perf_counter()
    fit_quietly(estimator, X)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "n_epochs": estimator.n_iter_,
        "converged": estimator.n_iter_ < estimator.max_iter,
        "objective": evaluate(estimator_weights(estimator), X),
    }


def run_round(X, case, device, seed):
    """Train everybody once, from the same seed; return one round's results."""
    result = {name: peer_curve(name, X, case, device, seed) for name in PEERS}
    target = result["pytorch"]["objective"][-1]
    curve = library_curve(X, case, device, seed, target)
    fit = plain_fit(X, case, device, seed, n_epochs=len(curve["seconds"]))
    result |= {"skcae": curve, "target": target, "fit": fit}
    result["ratio"] = {
        name: fit["seconds"] / result[name]["seconds"][-1] for name in PEERS
    }
    return result


def print_case(case, rounds):
    """Print what the rounds of one case come to."""

    def median(value):
        return statistics.median(value(r) for r in rounds)

    rows = []
    for name in PEERS:
        seconds = median(lambda r, name=name: r[name]["seconds"][-1])
        reached = median(lambda r, name=name: r[name]["objective"][-1])
        ratio = median(lambda r, name=name: r["ratio"][name])
        row = name, case.n_epochs, seconds, reached, ratio
        rows.append((*row[:2], *map(report.number, row[2:])))
    n_epochs = median(lambda r: r["fit"]["n_epochs"])
    seconds = median(lambda r: r["fit"]["seconds"])
    reached = median(lambda r: r["fit"]["objective"])
    row = "skcae", f"{n_epochs:g}", report.number(seconds), report.number(reached), ""
    header = "", "epochs", "seconds", "objective", "time of skcae / its time"
    print(f"\n{case.name}: n_hidden {case.n_hidden}, medians of {len(rounds)} rounds\n")
    print(report.table(header, [*rows, row]), flush=True)
    if any(r["fit"]["objective"] > r["target"] for r in rounds):
        print("NOT REACHED: in some rounds, fit(max_iter=epochs) missed the objective.")
    if "default_fit" in rounds[0]:
        seconds, n_epochs, reached = (
            median(lambda r, name=name: r["default_fit"][name])
            for name in ("seconds", "n_epochs", "objective")
        )
        print(
            f"a default fit: {report.number(seconds)} s, {n_epochs:g} epochs, "
            f"objective {report.number(reached)}, "
            f"converged: {all(r['default_fit']['converged'] for r in rounds)}"
        )


def plot(cases, path):
    """Draw the objective against seconds, one panel for each case."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1,
        len(cases),
        figsize=(5 * len(cases), 4),
        layout="constrained",
        squeeze=False,
    )
    colours = {"skcae": report.LIBRARY_COLOUR, "pytorch": report.FLOOR_COLOUR}
    for ax, case in zip(axes.flat, cases, strict=True):
        for i, result in enumerate(case["rounds"]):
            for name in (*PEERS, "skcae"):
                curve = result[name]
                ax.plot(
                    curve["seconds"],
                    curve["objective"],
                    color=colours.get(name, report.PEER_COLOUR),
                    marker="o" if len(curve["seconds"]) < 20 else None,
                    markersize=3,
                    label=name if i == 0 else None,
                )
        target = case["rounds"][0]["target"]
        ax.axhline(target, color="black", linewidth=0.8, linestyle=":")
        ax.set(xlabel="seconds of training", ylabel="objective", yscale="log")
        ax.set(title=f"{case['name']}, n_hidden {case['n_hidden']}", xlim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", help="mnist.npz with x_train; without it MNIST comes from openml.org"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="few rows and epochs: does it run?"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    arguments = {"device": args.device, "rounds": args.rounds, "quick": args.quick}
    content = {"environment": report.environment(), "arguments": arguments, "cases": []}
    for case in CASES:
        if case.name not in args.cases:
            continue
        if args.quick:
            case = replace(case, n_samples=1000, n_hidden=32, n_epochs=3)
        X = load_data(case.data, case.n_samples, None, args.data)
        # Load what the libraries load when first used.
        warm_up = replace(case, n_hidden=4, n_epochs=1)
        run_round(load_data("random", 600, 16), warm_up, args.device, seed=0)
        rounds = []
        for seed in range(args.rounds):
            rounds.append(run_round(X, case, args.device, seed))
            if case.data == "digits":
                rounds[-1]["default_fit"] = plain_fit(X, case, args.device, seed)
        content["cases"].append({**asdict(case), "rounds": rounds})
        print_case(case, rounds)
        report.write_json(args.output, "time_to_quality", content)
    plot(content["cases"], args.output / "time_to_quality.png")


if __name__ == "__main__":
    main()
