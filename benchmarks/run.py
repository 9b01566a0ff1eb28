"""Seconds per epoch, transform throughput and peak memory of all contenders.

    python benchmarks/run.py --data path/to/mnist.npz

Every contender has a process of its own. In each round each of them, one after the
other, trains for one epoch (more where epochs are short) while the others wait. One
that fails drops out, its error stands in the table, and the script's status is 1.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import report
from contenders import CONTENDERS
from worker import Worker

SEED = 0
GROWTH_CONTENDERS = ("floor", "skcae", "pytorch-tuned")


@dataclass(frozen=True)
class Case:
    """A data set and the sizes of the model; see `problem.load_data`."""

    name: str
    data: str
    n_samples: int
    n_features: int
    n_hidden: int
    batch_size: int = 256
    n_epochs: int = 1  # in a round
    grows: str = ""  # which size, if the case is part of a sweep
    labelled: bool = False  # is a classifier fine-tuned, not an autoencoder trained?
    tied: bool = False  # is the decoder's weight the transpose of the encoder's?


def growth(size, values):
    """Return the cases in which one size grows and the others stay."""
    sizes = {"n_samples": 10_000, "n_features": 784, "n_hidden": 256}
    return [
        Case(f"growth-{size}-{v}", "random", **{**sizes, size: v}, grows=size)
        for v in values
    ]


def sparse(name, n_features, grows=""):
    """Return a case of sparse rows, of 72 entries each."""
    sizes = (4000, n_features, 64)
    return Case(name, "sparse", *sizes, batch_size=250, tied=True, grows=grows)


CASES = [
    Case("mnist-256", "mnist", 60_000, 784, 256),
    Case("mnist-256-b128", "mnist", 60_000, 784, 256, batch_size=128),
    Case("mnist-1000", "mnist", 60_000, 784, 1000),
    Case("mnist-1000-b128", "mnist", 60_000, 784, 1000, batch_size=128),
    Case("digits", "digits", 1797, 64, 64, batch_size=128, n_epochs=50),
    Case("classify-mnist-1000", "mnist", 60_000, 784, 1000, labelled=True),
    Case(
        "classify-digits",
        "digits",
        1797,
        64,
        64,
        batch_size=128,
        n_epochs=50,
        labelled=True,
    ),
    *[
        Case(f"tied-{n}", "mnist", 60_000, 784, n, batch_size=1024, tied=True)
        for n in (64, 256, 1000)
    ],
    Case("wide", "random", 2000, 20_000, 128),
    sparse("text", 12_600),
    *growth("n_samples", (1_000, 5_000, 25_000, 125_000)),
    *growth("n_features", (50, 200, 800, 3200)),
    *growth("n_hidden", (16, 64, 256, 1024)),
    *[
        sparse(f"growth-sparse-{n}", n, grows="n_features, sparse rows")
        for n in (1_250, 5_000, 20_000, 80_000)
    ],
]


def tiny(case):
    """Return the case in a size that takes no time, to see that everything runs."""
    return replace(
        case,
        n_samples=min(case.n_samples, 600),
        n_features=min(case.n_features, 1000),
        n_hidden=min(case.n_hidden, 32),
        n_epochs=min(case.n_epochs, 2),
    )


def takes_part(contender, case):
    """Whether a contender can train the model of a case, on its rows."""
    return (
        contender.labelled == case.labelled
        and (contender.ties or not case.tied)
        and (contender.takes_sparse or case.data != "sparse")
    )


def chosen(names, patterns):
    """Return the names that match one of the patterns, in their own order."""
    unused = [p for p in patterns if not any(fnmatch(name, p) for name in names)]
    if unused:
        known = ", ".join(names)
        sys.exit(f"nothing is named {' or '.join(unused)}; there are {known}")
    return [name for name in names if any(fnmatch(name, p) for p in patterns)]


class Race:
    """The contenders of one case; one that fails drops out and says why."""

    def __init__(self, names, device, pause):
        self.pause = pause
        self.workers = {name: Worker(name, device, SEED) for name in names}
        self.errors = {}
        for name in names:  # They import their libraries side by side.
            with self.dropping_out(name):
                self.workers[name].wait_until_ready()

    def dropping_out(self, name):
        return _DroppingOut(self, name)

    def ask(self, method, *args, shift=0):
        """Ask all contenders in turn; return their answers by name."""
        answers = {}
        names = list(self.workers)
        shift %= max(1, len(names))
        for name in names[shift:] + names[:shift]:
            time.sleep(self.pause)  # Threads of the last contender may still spin.
            with self.dropping_out(name):
                answers[name] = getattr(self.workers[name], method)(*args)
        return answers

    def close(self):
        for worker in self.workers.values():
            worker.close()


class _DroppingOut:
    """Context in which a RuntimeError ends one contender's part in the race."""

    def __init__(self, race, name):
        self.race, self.name = race, name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, RuntimeError):
            return False
        self.race.errors[self.name] = str(error)
        worker = self.race.workers.pop(self.name, None)
        if worker is not None:
            worker.close()
        return True


def run_case(case, names, args):
    """Return the results of all contenders in one case."""
    race = Race(names, args.device, pause=0 if args.quick else 0.2)
    try:
        race.ask("setup", case, args.data)
        race.ask("train", case.n_epochs)  # Compiles, allocates; not counted.
        seconds = [
            race.ask("train", case.n_epochs, shift=i) for i in range(args.rounds)
        ]
        memory = race.ask("training_memory")
        race.ask("transform")
        rates = [race.ask("transform", shift=i) for i in range(args.rounds)]
        details = race.ask("result")
    finally:
        race.close()
    results = []
    for name in names:
        if name in race.errors:
            results.append({"contender": name, "error": race.errors[name]})
            continue
        rate = [answers[name] for answers in rates]
        results.append(
            {
                "contender": name,
                **details[name],
                "seconds_per_epoch": report.summary([s[name] for s in seconds]),
                "transform_rows_per_second": (
                    None if None in rate else report.summary(rate)
                ),
                "peak_memory_mib": memory[name],
            }
        )
    report.add_ratios(results)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", help="mnist.npz; without it MNIST comes from openml.org"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="PATTERN", help="such as 'mnist*'"
    )
    parser.add_argument(
        "--contenders", nargs="+", default=["*"], metavar="PATTERN", help="such as mlp"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, one round: do they all run?"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    cases = {case.name: case for case in CASES}
    names = chosen(list(CONTENDERS), args.contenders)
    content = {
        "environment": report.environment(),
        "arguments": {
            "device": args.device,
            "rounds": args.rounds,
            "quick": args.quick,
            "seed": SEED,
        },
        "cases": [],
    }
    for name in chosen(list(cases), args.cases):
        case = tiny(cases[name]) if args.quick else cases[name]
        entrants = [
            n
            for n in names
            if takes_part(CONTENDERS[n], case)
            and (not case.grows or n in GROWTH_CONTENDERS)
        ]
        if not entrants:
            continue
        results = run_case(case, entrants, args)
        content["cases"].append({**asdict(case), "results": results})
        print(f"\n{report.title(content['cases'][-1])}\n")
        print(report.case_table(results), flush=True)
        # After each case, so that an interrupted run leaves what it has.
        report.write_json(args.output, "run", content)
    growing = [case for case in content["cases"] if case["grows"]]
    fixed = [case for case in content["cases"] if not case["grows"]]
    if fixed:
        report.plot_cases(fixed, args.output / "epochs.png")
    if growing:
        report.plot_growth(growing, args.output / "growth.png")
    # One that can't use the device has not failed.
    failed = [
        f"{result['contender']} in {case['name']}"
        for case in content["cases"]
        for result in case["results"]
        if "error" in result and not result["error"].startswith("Unavailable: ")
    ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
