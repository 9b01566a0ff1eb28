"""What a step of training spends its time on.

    python benchmarks/parts.py --data path/to/mnist.npz

The operations of an epoch of the library's engine, as PyTorch's profiler counts them,
in five parts: matrix products (of sparse rows too), other arithmetic, reading rows, the
optimiser, and Python with whatever else has no operation. One thread; the median of
several epochs.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import report
import torch
from contenders import Skcae, SkcaeMuon
from problem import LAM, load_data
from run import CASES
from torch.profiler import ProfilerActivity, profile, record_function

from skcae.engine import batches, sparse

PARTS = ("matrix products", "other arithmetic", "reading rows", "optimiser", "Python")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot", "linalg", "Product")

NAMES = ("digits", "tied-64", "tied-256", "tied-1000", "text")


def part_of(operation):
    name = operation.removeprefix("aten::").rstrip("_")
    is_product = any(name.startswith(product) for product in PRODUCTS)
    return "matrix products" if is_product else "other arithmetic"


def instrument(owner, method, name):
    """Let the profiler count a method under its name."""
    function = getattr(owner, method)

    def recorded(*args, **kwargs):
        with record_function(name):
            return function(*args, **kwargs)

    setattr(owner, method, recorded)


def seconds_by_part(contender, rounds):
    """Return the seconds of an epoch, by part; what is profiled takes longer."""
    trainer = contender.trainer
    instrument(trainer.optimizer, "step", "optimiser")
    for buffer in (batches._Buffer, batches._SparseBuffer):
        instrument(buffer, "gather", "reading rows")
    for function in ("product", "transposed_product", "add_transposed_product"):
        instrument(sparse, function, "matrix products")
    times = []
    for _ in range(rounds):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            start = time.perf_counter()
            trainer.epoch()
            whole = time.perf_counter() - start
        parts = dict.fromkeys(PARTS, 0.0)
        for event in profiler.events():
            if is_inside(event):
                continue
            if event.name in PARTS:
                parts[event.name] += event.cpu_time_total / 1e6
            else:
                parts[part_of(event.name)] += event.cpu_time_total / 1e6
        parts["Python"] = max(0.0, whole - sum(parts.values()))
        times.append([parts[part] for part in PARTS])
    return np.median(times, axis=0)


def is_inside(event):
    """Whether the operation is part of another one."""
    return event.cpu_parent is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz; default openml.org")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = {case.name: case for case in CASES}
    content, rows = {"environment": report.environment()}, []
    for name in NAMES:
        case = cases[name]
        X = load_data(case.data, case.n_samples, case.n_features, args.data)
        for kind in (Skcae, SkcaeMuon):
            contender = kind("cpu", 0)
            contender.tied = True
            contender.setup(X[:20_000], case.n_hidden, case.batch_size, LAM)
            contender.train(1)
            start = time.perf_counter()
            contender.train(3)
            whole = (time.perf_counter() - start) / 3
            shares = seconds_by_part(contender, args.rounds)
            shares /= shares.sum()
            label = f"{name}, {kind.optimizer}"
            content[label] = {"seconds": whole, "shares": shares.tolist()}
            cells = [f"{share:.0%}" for share in shares]
            rows.append([label, f"{1000 * whole:.1f}", *cells])
    print(report.table(["", "ms an epoch", *PARTS], rows))
    report.write_json(args.output, "parts", content)
    report.plot_parts(content, PARTS, args.output / "parts.png")


if __name__ == "__main__":
    main()
