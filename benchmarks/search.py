"""GridSearchCV over lam and n_hidden on digits: in one process and in two.

    python benchmarks/search.py

A search in two processes can't be faster than half of the same search in one, plus the
start of the processes. How close is it, and where does the rest of the time go?
"""

import argparse
import os
import statistics
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import report
import torch
from joblib.externals.loky import get_reusable_executor
from problem import load_data
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from skcae import ContractiveAutoencoderTransformer

GRID = {
    "cae__lam": [0.01, 0.1, 0.3, 1, 3],
    "cae__n_hidden": [16, 32, 64, 128, 256],
}
N_JOBS = 2


def scores(pipeline, X, y):
    """Return the accuracy, and beside it what tells how this fit was run."""
    accuracy = pipeline.score(X, y)
    return {
        "accuracy": accuracy,
        "epochs": pipeline["cae"].n_iter_,
        "process": os.getpid(),
        "torch_threads": torch.get_num_threads(),
        "blas_threads": max(
            (p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"),
            default=0,
        ),
        "finished": time.time(),
    }


def search(X, y, n_jobs, quick):
    """Run one search; return its wall time and where the time went."""
    pipeline = Pipeline(
        [
            ("cae", ContractiveAutoencoderTransformer(random_state=0)),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression()),
        ]
    )
    grid, cv = GRID, 5
    if quick:
        pipeline.set_params(cae__max_iter=3, classify__max_iter=20)
        grid, cv = {name: values[:2] for name, values in GRID.items()}, 2
    model = GridSearchCV(
        pipeline, grid, scoring=scores, refit=False, cv=cv, n_jobs=n_jobs
    )
    start, started = time.perf_counter(), time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    seconds = time.perf_counter() - start

    results = model.cv_results_

    def per_fit(name):
        return np.array([results[f"split{i}_test_{name}"] for i in range(cv)])

    processes, finished = per_fit("process"), per_fit("finished")
    fits_by_process = [int((processes == p).sum()) for p in np.unique(processes)]
    last_fits = [finished[processes == p].max() - started for p in np.unique(processes)]
    fit_seconds = float(results["mean_fit_time"].sum() * cv)
    return {
        "seconds": seconds,
        "fit_seconds": fit_seconds,
        "score_seconds": float(results["mean_score_time"].sum() * cv),
        "milliseconds_per_epoch": 1000 * fit_seconds / float(per_fit("epochs").sum()),
        "epochs": int(per_fit("epochs").sum()),
        "fits_by_process": fits_by_process,
        "idle_seconds_at_end": float(max(last_fits) - min(last_fits)),
        "torch_threads": sorted({int(n) for n in per_fit("torch_threads").flat}),
        "blas_threads": sorted({int(n) for n in per_fit("blas_threads").flat}),
        "best_accuracy": float(results["mean_test_accuracy"].max()),
    }


def in_one_process(X, y, quick):
    return search(X, y, 1, quick)


def in_one_thread(X, y, quick):
    """Search in one process that uses one core: what each of two processes has."""
    with one_thread():
        return search(X, y, 1, quick)


def in_two_processes(X, y, quick):
    """Search in fresh processes, so that their start is part of the time."""
    stop_processes()
    return search(X, y, N_JOBS, quick)


SEARCHES = {
    "one process": in_one_process,
    "one process, one thread": in_one_thread,
    "two processes": in_two_processes,
}


@contextmanager
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


def stop_processes():
    get_reusable_executor(max_workers=N_JOBS).shutdown(wait=True)


def _import_library():
    import skcae  # noqa: F401


def process_start():
    """Return the seconds until fresh processes have imported the library."""
    stop_processes()
    start = time.perf_counter()
    joblib.Parallel(N_JOBS)(joblib.delayed(_import_library)() for _ in range(N_JOBS))
    return time.perf_counter() - start


def print_results(content):
    """Print the medians, and the two ratios."""
    columns = (
        "seconds",
        "fit_seconds",
        "score_seconds",
        "milliseconds_per_epoch",
        "idle_seconds_at_end",
    )
    rows = []
    for name, results in content["searches"].items():
        medians = [statistics.median(r[column] for r in results) for column in columns]
        last = results[-1]
        rows.append(
            (
                name,
                *map(report.number, medians),
                "+".join(map(str, last["fits_by_process"])),
                "/".join(map(str, last["torch_threads"])),
                "/".join(map(str, last["blas_threads"])),
            )
        )
    header = (
        "",
        "wall s",
        "sum of fits s",
        "sum of scores s",
        "ms / epoch",
        "idle at end s",
        "fits by process",
        "torch threads",
        "BLAS threads",
    )
    print(report.table(header, rows))
    print(
        f"\nstart of {N_JOBS} processes: {report.number(content['start']['median'])} s"
    )
    for name, ratio in content["ratios"].items():
        print(f"two processes / (half of {name} + start): {report.number(ratio)}")


def plot(content, path):
    """Draw the wall times, and the least that two processes could take."""
    import matplotlib.pyplot as plt

    names = list(content["searches"])
    seconds = [
        statistics.median(r["seconds"] for r in results)
        for results in content["searches"].values()
    ]
    start = content["start"]["median"]
    figure, ax = plt.subplots(figsize=(7, 2.5), layout="constrained")
    colours = [report.PEER_COLOUR, report.PEER_COLOUR, report.LIBRARY_COLOUR]
    bars = ax.barh(names, seconds, color=colours)
    ax.bar_label(bars, [f"{report.number(s)} s" for s in seconds], padding=3)
    ax.axvline(
        seconds[0] / N_JOBS + start,
        color=report.FLOOR_COLOUR,
        linestyle="--",
        label="half of one process, plus the start of two",
    )
    ax.set(xlabel="seconds of wall time, median", xlim=(0, 1.15 * max(seconds)))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="two values, folds, few epochs: it runs?"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    X, y = load_data("digits", None, None), load_digits().target
    search(X, y, 1, quick=True)  # Load what the libraries load when first used.
    searches, starts = {name: [] for name in SEARCHES}, []
    for _ in range(args.rounds):
        for name, run in SEARCHES.items():
            searches[name].append(run(X, y, args.quick))
        starts.append(process_start())
    stop_processes()
    wall = {
        name: statistics.median(r["seconds"] for r in results)
        for name, results in searches.items()
    }
    start = statistics.median(starts)
    content = {
        "environment": report.environment(),
        "arguments": {"rounds": args.rounds, "quick": args.quick, "grid": GRID},
        "searches": searches,
        "start": report.summary(starts),
        "ratios": {
            name: wall["two processes"] / (wall[name] / N_JOBS + start)
            for name in ("one process", "one process, one thread")
        },
    }
    print_results(content)
    report.write_json(args.output, "search", content)
    plot(content, args.output / "search.png")


if __name__ == "__main__":
    main()
