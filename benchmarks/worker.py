"""A contender in a process of its own, asked over a pipe for one round at a time."""

import contextlib
import gc
import multiprocessing
import sys
import time

from problem import LAM, cross_entropy, load_data, load_labels, objective


class Worker:
    """The near end of the pipe.

    Its methods are those of `_Station`, after `wait_until_ready`. Each raises
    RuntimeError where the far end failed.
    """

    def __init__(self, contender, device, seed):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, contender, device, seed), daemon=True
        )
        self._process.start()
        far_end.close()

    def wait_until_ready(self):
        """Wait until the contender is made."""
        self._receive()

    def _receive(self):
        try:
            succeeded, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process ended: out of memory?") from None
        if not succeeded:
            raise RuntimeError(value)
        return value

    def __getattr__(self, name):
        def call(*args):
            self._pipe.send((name, args))
            return self._receive()

        return call

    def close(self):
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, contender, device, seed):
    """Answer requests until the near end closes."""
    try:
        try:
            station = _Station(contender, device, seed)
            pipe.send((True, None))
            while True:
                name, args = pipe.recv()
                pipe.send((True, getattr(station, name)(*args)))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            message = str(error).partition("\n")[0]
            pipe.send((False, f"{type(error).__name__}: {message}"))
    except (EOFError, BrokenPipeError):
        pass


class _Station:
    """The far end: a contender, and the clock beside it."""

    def __init__(self, contender, device, seed):
        from contenders import CONTENDERS

        self.contender = CONTENDERS[contender](device, seed)

    def setup(self, case, mnist):
        """Load the data, take the memory in use as the baseline, set up.

        Libraries load parts of theirs when first used. A training too small to matter
        makes them, so that the baseline holds all code and all data.
        """
        self.X = load_data(case.data, case.n_samples, case.n_features, mnist)
        labelled = self.contender.labelled
        self.y = load_labels(case.data, case.n_samples, mnist) if labelled else None
        few = load_labels("random", 64) if labelled else LAM
        self.contender.tied = case.tied
        kind = "sparse" if case.data == "sparse" else "random"
        self.contender.setup(load_data(kind, 64, 80), 4, 32, few)
        self.contender.train(1)
        gc.collect()
        self.baseline = _reset_peak_memory()
        last = self.y if labelled else LAM
        self.contender.setup(self.X, case.n_hidden, case.batch_size, last)

    def train(self, n_epochs):
        """Return the seconds that an epoch took."""
        start = time.perf_counter()
        n_done = self.contender.train(n_epochs)
        return (time.perf_counter() - start) / n_done

    def training_memory(self):
        """Return the peak memory since `setup` above the baseline, in MiB, or None."""
        return _peak_memory() - self.baseline if self.baseline else None

    def transform(self):
        """Return the rows encoded per second, or None."""
        start = time.perf_counter()
        if self.contender.transform(self.X) is None:
            return None
        return self.X.shape[0] / (time.perf_counter() - start)

    def result(self):
        """Return the objective reached and what describes the process."""
        weights = self.contender.weights()
        lam = LAM if self.contender.penalised else 0
        if weights is None:
            reached = None
        elif self.contender.labelled:
            reached = cross_entropy(weights, self.X, self.y)
        else:
            reached = objective(weights, self.X, lam)
        return {
            "note": self.contender.note,
            "lam": lam,
            "objective": reached,
            "threads": _threads(),
        }


def _threads():
    """Return the number of threads of each thread pool in this process."""
    from threadpoolctl import threadpool_info

    pools = {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
    if "torch" in sys.modules:
        pools["torch"] = sys.modules["torch"].get_num_threads()
    return pools


# Linux keeps the peak of the resident memory and lets a process reset it; elsewhere
# there is no such thing that doesn't count the imports, and the column stays empty.


def _memory(field):
    with open("/proc/self/status") as lines:
        (value,) = (line.split()[1] for line in lines if line.startswith(field + ":"))
    return int(value) / 1024


def _reset_peak_memory():
    with contextlib.suppress(OSError):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _memory("VmRSS")


def _peak_memory():
    return _memory("VmHWM")
