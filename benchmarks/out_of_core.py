"""Fitting and transforming a memory map: how fast beside an array, in how much memory?

    python benchmarks/out_of_core.py --gigabytes 2 --rounds 3
    python benchmarks/out_of_core.py --gigabytes 20 --sparse

The file is made of random rows and, having just been written and read, in the page
cache; array and memory map take turns, each time in a new process. With ``--sparse`` it
is a file of zeros that takes no space, and only the memory map is measured: that is for
the memory that a file larger than the machine's takes. Epochs are timed from the second
one on (with ``--sparse``, the first) between callbacks' calls, so that starting doesn't
count. Memory is private memory above that after the import, with the array itself.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np

CASES = {
    # name: dtype, n_features, parameters
    "uint8, 784 features, n_hidden 256": ("uint8", 784, {"n_hidden": 256}),
    "uint8, 784 features, n_hidden 16": ("uint8", 784, {"n_hidden": 16}),
    "float32, 784 features, n_hidden 256": ("float32", 784, {"n_hidden": 256}),
    "float32, 784 features, n_hidden 16": ("float32", 784, {"n_hidden": 16}),
}
RUN_BYTES = 2**24


def write(path, dtype, n_bytes, sparse):
    """Write random values in [0, 1] or 0 to 255."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, RUN_BYTES, dtype=np.uint8)
    if dtype == "float32":
        block = block[: len(block) // 4].astype(np.float32) / np.float32(255)
    with path.open("wb") as file:
        if sparse:
            file.truncate(n_bytes)
            return
        for _ in range(n_bytes // block.nbytes):
            np.roll(block, int(rng.integers(block.size))).tofile(file)


def private_memory():
    """Return this process's resident private memory in MiB."""
    with open("/proc/self/status") as lines:
        return next(int(s.split()[1]) / 1024 for s in lines if "RssAnon" in s)


class Peak(threading.Thread):
    """Looks at the private memory all the time and keeps the greatest value."""

    def __init__(self):
        super().__init__(daemon=True)
        self.value = private_memory()
        self.start()

    def run(self):
        while True:
            self.value = max(self.value, private_memory())
            time.sleep(0.01)


class Clock:
    """A scikit-learn callback that notes when epochs end, in wall and CPU time."""

    def __init__(self):
        self.times = []
        self.cpu_times = []

    def note(self):
        self.times.append(time.perf_counter())
        self.cpu_times.append(time.process_time())

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and not self.times:
            self.note()

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.note()


def measure(path, case, how, n_epochs):
    """Fit and transform; return rows per second and the peak memory."""
    from skcae import ContractiveAutoencoderTransformer

    warnings.simplefilter("ignore")
    dtype, n_features, parameters = CASES[case]
    before = private_memory()
    peak = Peak()
    X = np.memmap(path, dtype, mode="r")
    X = X[: X.size // n_features * n_features].reshape(-1, n_features)
    if how == "array":
        X = np.array(X)
    clock = Clock()
    model = ContractiveAutoencoderTransformer(
        **parameters, max_iter=n_epochs, tol=0, random_state=0
    )
    model.set_callbacks(clock).fit(X)
    start = min(1, n_epochs - 1)
    epoch = statistics.median(np.diff(clock.times)[start:])
    fit_peak = peak.value - before
    begin = time.perf_counter()
    for rows in range(0, len(X), 2**18):
        model.transform(X[rows : rows + 2**18])
    seconds = time.perf_counter() - begin
    return {
        "fit": len(X) / epoch,
        "transform": len(X) / seconds,
        "fit_peak": fit_peak,
        "peak": peak.value - before,
    }


def in_new_process(*arguments):
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    return json.loads(subprocess.check_output(command))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--directory", help="where to write the file")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        path, case, how, n_epochs = args.measure
        print(json.dumps(measure(path, case, how, int(n_epochs))))
        return

    import report

    ways = ["memory map"] if args.sparse else ["array", "memory map"]
    header = ["", "", "fit, rows/s", "transform, rows/s", "peak MiB of fit", "of all"]
    lines, ratios = [], []
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        path = Path(directory) / "X"
        for case in args.cases:
            write(path, CASES[case][0], int(args.gigabytes * 2**30), args.sparse)
            runs = {how: [] for how in ways}
            for _ in range(args.rounds):
                for how in ways:
                    runs[how].append(in_new_process(path, case, how, args.epochs))
            medians = {
                how: {
                    k: statistics.median(r[k] for r in runs[how]) for k in runs[how][0]
                }
                for how in ways
            }
            lines += [
                [case, how, *(f"{value:,.0f}" for value in medians[how].values())]
                for how in ways
            ]
            if not args.sparse:
                mapped, array = medians["memory map"], medians["array"]
                fit, transform = (mapped[k] / array[k] for k in ("fit", "transform"))
                ratios.append([case, f"{fit:.2f}", f"{transform:.2f}"])
    print(report.table(header, lines))
    if ratios:
        print()
        print(report.table(["memory map / array", "fit", "transform"], ratios))


if __name__ == "__main__":
    main()
