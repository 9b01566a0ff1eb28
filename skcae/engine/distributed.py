"""Several processes that train one model: data parallelism on torch.distributed.

Each process, called a rank, has rows of its own. Training communicates with the other
ranks through `ManyProcesses`. `OneProcess` has the same methods for a single process,
at no cost.

There are two kinds of exchange. `gather` collects a small value from each rank. A rank
that has failed tells the others so in a `gather`, and they raise too. Tensors are
summed in each step, and sometimes copied from rank 0.

Code that can fail on one rank alone runs before a `gather`, never between a `gather`
and the exchange of a tensor. The other ranks are then waiting in a `gather` when a rank
fails. A step may fail too: the tensor that the ranks sum has an entry for that. SIGINT
and SIGTERM are handled in a `gather` or between two steps.
"""

import functools
import signal
import threading
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
import torch.distributed as dist

from .sparse import concatenated

# Number of steps between two checks whether a rank has failed. In each check the CPU
# waits for the device.
_CHECK_INTERVAL = 64


class OneProcess:
    """A single process: the methods of `ManyProcesses`, without any exchange."""

    rank = 0
    size = 1

    def taking_part(self):
        return nullcontext()

    def gather(self, value=None):
        return [value]

    def tell(self, error):
        pass

    def pool(self, rows):
        return rows

    def copy_(self, *tensors):
        pass

    def n_batches(self, n_samples, batch_size):
        """Return None: all batches but the last have ``batch_size`` rows."""

    def steps(self, evaluate, gradient, batches):
        for batch in batches:
            yield torch.stack(evaluate(batch))


ALONE = OneProcess()


class ManyProcesses:
    """The ranks of a process group, all of which call the same methods in turn.

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup

    Attributes
    ----------
    rank : int
        Number of this process.
    size : int
        Number of processes.
    """

    def __init__(self, process_group):
        self.rank = dist.get_rank(process_group)
        self.size = dist.get_world_size(process_group)
        self._process_group = process_group
        self._source = dist.get_global_rank(process_group, 0)
        # Signals to be handled later: (handler, signum, frame).
        self._signals = []
        # Whether Ctrl-C has ended the training. Another Ctrl-C then has no effect.
        self._interrupted = False
        # Whether the other ranks know of the error that is being raised.
        self._known = False

    @contextmanager
    def taking_part(self):
        """Return a context that ends in the same way on all ranks.

        If the block raises on one rank, it raises on all; ranks without an error of
        their own raise RuntimeError. Ctrl-C on one rank raises KeyboardInterrupt on all
        ranks, in an exchange. After that, another Ctrl-C on any rank has no effect.
        """
        self._interrupted = False
        with self._deferring_signals():
            try:
                yield
                self.gather()
            except BaseException as error:
                self.tell(error)
                raise

    @contextmanager
    def _deferring_signals(self):
        # Handlers of Ctrl-C and SIGTERM often raise. If one raised in the middle of an
        # exchange, the other ranks would wait for this one.
        handlers = {}

        def defer(signum, frame):
            self._signals.append((handlers[signum], signum, frame))

        is_main = threading.current_thread() is threading.main_thread()
        try:
            for signum in (signal.SIGTERM, signal.SIGINT) if is_main else ():
                handler = signal.getsignal(signum)
                if callable(handler):
                    handlers[signum] = handler
                    signal.signal(signum, defer)
            yield
        finally:
            # Ctrl-C comes last, as it may raise as soon as its handler is restored.
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            self._handle_signals()

    def _handle_signals(self):
        """Call the handlers of the deferred signals, and raise one of their errors.

        KeyboardInterrupt is raised only if there is no other error. `fit` catches it
        and returns, so that another error would be lost.
        """
        raised = None
        while self._signals:
            handler, *arguments = self._signals.pop(0)
            try:
                handler(*arguments)
            except BaseException as error:
                again = isinstance(error, KeyboardInterrupt) and self._interrupted
                if not again and (raised is None or type(raised) is KeyboardInterrupt):
                    raised = error
        if raised is not None:
            raise raised

    def gather(self, value=None):
        """Return the list of all ranks' values, in order; raise if a rank failed.

        Parameters
        ----------
        value : object
            A small object that can be pickled.
        """
        problem = None
        try:
            self._handle_signals()
        except BaseException as error:
            problem = error
        values = self._exchange(value, problem)
        if problem is not None:
            self._known = True
            raise problem
        return values

    def tell(self, error):
        """Tell the other ranks of an error, unless it came from an exchange."""
        if not self._known:
            self._exchange(None, error)
        self._known = False

    def _exchange(self, value, problem=None):
        interrupted = isinstance(problem, KeyboardInterrupt)
        failed = problem is not None and not interrupted
        text = f"{type(problem).__name__}: {problem}" if failed else None
        answers = [None] * self.size
        self._collective(dist.all_gather_object, answers, (text, interrupted, value))
        self._known = True
        self._interrupted |= any(answer[1] for answer in answers)
        texts = [f"rank {i}: {a[0]}" for i, a in enumerate(answers) if a[0] is not None]
        if texts and not failed:
            raise RuntimeError(
                "Training was given up because it failed in another process "
                f"({'; '.join(texts)})"
            )
        if problem is None and any(answer[1] for answer in answers):
            raise KeyboardInterrupt
        self._known = False
        return [answer[2] for answer in answers]

    def _collective(self, function, *args, **kwargs):
        self._known = True
        try:
            function(*args, group=self._process_group, **kwargs)
        except RuntimeError as error:
            raise RuntimeError(
                "An exchange with the other processes failed. One of them may have "
                "been terminated, or may have taken longer than the process group's "
                f"timeout: {error}"
            ) from error
        self._known = False

    def pool(self, rows):
        """Return the rows of all ranks in one tensor, on the device of ``rows``."""
        return concatenated(self.gather(rows.cpu())).to(rows.device)

    def copy_(self, *tensors):
        """Overwrite the tensors with those of rank 0."""
        self.gather()
        for tensor in tensors:
            self._collective(dist.broadcast, tensor, self._source)

    def n_batches(self, n_samples, batch_size):
        """Return the number of steps of an epoch.

        Parameters
        ----------
        n_samples : int
            Number of rows of this rank.
        batch_size : int
            Number of rows of all ranks together in a step.
        """
        sizes = self.gather(n_samples)
        # No step is empty, since each has at least one row of the largest shard.
        return min(-(-sum(sizes) // batch_size), max(sizes))

    def steps(self, evaluate, gradient, batches):
        """Yield the terms of each batch of one epoch, summed over all ranks' rows.

        At each yield, ``gradient.gradient`` is the gradient of the batch's mean
        objective. A rank may have no rows in a batch.

        Parameters
        ----------
        evaluate : callable
            Computes ``gradient`` on a batch of this rank, and returns its terms.
        gradient : FlatGradient
        batches : iterable
            Batches of this rank. Their number, ``n_batches``, is the same on all ranks.
        """
        sizes = [len(gradient.flat), gradient.n_terms, 1, 1]
        message = gradient.flat.new_zeros(sum(sizes))
        weighted, terms, n_rows, failed = message.split(sizes)
        own_batches = iter(batches)
        problem = None
        self.gather()
        for step in range(batches.n_batches):
            n = 0
            if problem is None:
                try:
                    self._handle_signals()
                    batch = next(own_batches)
                    if len(batch):
                        # Weight decay has the same gradient on every rank, so that the
                        # weighted mean over the ranks leaves it unchanged.
                        torch.stack(evaluate(batch), out=terms)
                        torch.mul(gradient.gradient, len(batch), out=weighted)
                        n = len(batch)
                except BaseException as error:
                    problem = error
            if n == 0:
                message.zero_()
            n_rows.fill_(n)
            failed.fill_(problem is not None)
            self._collective(dist.all_reduce, message)
            looks = step % _CHECK_INTERVAL == 0 or step + 1 == batches.n_batches
            if looks and failed.item():
                if problem is not None:
                    raise problem
                self.gather()
            torch.div(weighted, n_rows, out=gradient.gradient)
            yield terms.clone()


_current = ContextVar("current_group", default=ALONE)


def current_group():
    """Return the `OneProcess` or `ManyProcesses` that train together."""
    return _current.get()


@contextmanager
def data_parallel(process_group=None):
    """Return a context in which `current_group` is the process group, or all ranks.

    Raises
    ------
    RuntimeError
        If torch.distributed isn't initialised.
    ValueError
        If this process isn't part of the group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "data_parallel needs a process group: call "
            "torch.distributed.init_process_group() first, in a script that torchrun "
            "starts."
        )
    if process_group is None:
        process_group = dist.group.WORLD
    if dist.get_rank(process_group) < 0:
        raise ValueError("This process isn't part of the process group.")
    alone = dist.get_world_size(process_group) == 1
    token = _current.set(ALONE if alone else ManyProcesses(process_group))
    try:
        yield
    finally:
        _current.reset(token)


def taking_part(method):
    """Make a method of an estimator end in the same way on all ranks."""

    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        with current_group().taking_part():
            return method(*args, **kwargs)

    return wrapper
