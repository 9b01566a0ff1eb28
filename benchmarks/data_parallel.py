"""Data-parallel fits: seconds per epoch of one process and of two.

    python benchmarks/data_parallel.py --data path/to/mnist.npz --rounds 5

On one machine, two processes of one thread can be twice as fast as one of one thread,
and compete with one process of two threads. The three take turns; each run is new
processes, started by torchrun where there are two. The global batch is the same. Wall
time means something only on a machine that does nothing else. The CPU time of an epoch,
of all processes together, is what exchanging costs without the waiting: it bounds the
efficiency from above.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from contextlib import nullcontext

import numpy as np

CASES = {
    # name: n_hidden, batch_size, solver
    "n_hidden 64, batch 1024, adam": (64, 1024, "adam"),
    "n_hidden 256, batch 256, adam": (256, 256, "adam"),
    "n_hidden 256, batch 1024, adam": (256, 1024, "adam"),
    "n_hidden 1000, batch 256, adam": (1000, 256, "adam"),
    "n_hidden 1000, batch 1024, adam": (1000, 1024, "adam"),
    "n_hidden 256, batch 1024, muon": (256, 1024, "muon"),
}
WAYS = {
    # name: number of processes, of threads
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread": (2, 1),
}


def measure(case, n_rows, n_epochs, data):
    """Print the medians of an epoch's seconds, wall and CPU, but for the first."""
    import torch.distributed as dist
    from out_of_core import Clock
    from problem import load_data

    from skcae import ContractiveAutoencoderTransformer
    from skcae.distributed import data_parallel

    rank, n_ranks, context = 0, 1, nullcontext()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        rank, n_ranks = dist.get_rank(), dist.get_world_size()
        context = data_parallel()
    X = load_data("mnist", n_rows, None, mnist=data)
    shard = np.array_split(X, n_ranks)[rank].copy()
    n_hidden, batch_size, solver = CASES[case]
    model = ContractiveAutoencoderTransformer(
        n_hidden,
        batch_size=batch_size,
        solver=solver,
        max_iter=n_epochs,
        tol=0,
        random_state=0,
    )
    clock = Clock()
    model.set_callbacks(clock)
    warnings.simplefilter("ignore")
    with context:
        model.fit(shard)
    if rank == 0:
        times = clock.times, clock.cpu_times
        seconds, cpu = (statistics.median(np.diff(t)[1:]) for t in times)
        print(json.dumps([seconds, n_ranks * cpu]))
    if n_ranks > 1:
        dist.destroy_process_group()


def run(case, way, args):
    n_processes, n_threads = WAYS[way]
    command = [sys.executable]
    if n_processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={n_processes}"]
    command += [__file__, "--measure", case, "--rows", str(args.rows)]
    command += ["--epochs", str(args.epochs)]
    command += ["--data", args.data] if args.data else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    output = subprocess.check_output(command, env=environment, text=True)
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz; default: from openml.org")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.rows, args.epochs, args.data)
        return

    import report

    lines = []
    for case in args.cases:
        runs = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way in WAYS:
                runs[way].append(run(case, way, args))
        seconds, cpu = (
            [statistics.median(r[i] for r in runs[way]) for way in WAYS] for i in (0, 1)
        )
        ratios = [s[0] / s[2] for s in (seconds, cpu)]
        values = *seconds, ratios[0] / 2, seconds[0] / seconds[1] / 2, ratios[1]
        lines.append([case, *(f"{value:.3g}" for value in values)])
        print(*lines[-1], flush=True)
    efficiencies = ["2 processes", "2 threads", "2 processes, by CPU time"]
    header = ["seconds per epoch", *WAYS, *(f"efficiency, {e}" for e in efficiencies)]
    print(report.table(header, lines))


if __name__ == "__main__":
    main()
