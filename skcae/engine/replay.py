"""Recording of work on a GPU, which is then replayed as a CUDA graph.

A GPU completes the small operations of a step faster than Python launches them. The
replay of a recording takes one call, whatever the number of operations.
"""

import gc
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import is_dataclass

import torch

# Recording takes as long as some tens of calls, so that it doesn't pay for few calls.
_N_CALLS_BEFORE = 20

# Only one recording may be in progress, and no replay at the same time.
_lock = threading.RLock()

# Streams to record on, by device. No recording that was made on an idle stream is still
# in use: when one of a stream's recordings is deleted, older ones may lose their
# memory. Streams are reused because PyTorch keeps memory for each stream.
_idle_streams = {}


def replayed(function, device, generators=()):
    """Return a function that does the same as ``function``, by replaying a recording.

    On a GPU the work is recorded after some calls with the same tensors (the same
    addresses and shapes), and is replayed in all later calls. On other devices the
    result is ``function`` itself.

    Parameters
    ----------
    function : callable
        It takes tensors, or tuples or dataclasses of tensors, and returns an iterable
        of tensors, which the next call may overwrite. It must do the same operations in
        each call, on these tensors and on memory that it owns. It must never wait for
        the device.
    device : torch.device
    generators : sequence of torch.Generator, default=()
        The generators that ``function`` draws from, all on ``device``.
    """
    if device.type != "cuda":
        return function
    return _Replayed(function, device, generators)


class _Replayed:
    def __init__(self, function, device, generators):
        self._function = function
        self._device = device
        self._generators = generators
        self._n_calls = Counter()
        self._recordings = {}
        idle = _idle_streams.setdefault(device, [])
        self._stream = idle.pop() if idle else torch.cuda.Stream(device)
        weakref.finalize(self, idle.append, self._stream)
        # All recordings share the memory of their intermediate results.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, *args):
        key = tuple(_places(args))
        if key not in self._recordings:
            self._n_calls[key] += 1
            if self._n_calls[key] <= _N_CALLS_BEFORE:
                return self._function(*args)
            self._recordings[key] = self._recorded(args)
        graph, results = self._recordings[key]
        with _lock:
            graph.replay()
        return results

    def _recorded(self, args):
        """Record the work; return the graph and the tensors that it writes."""
        # `torch.cuda.graph` enters the stream too, but doesn't leave it if recording
        # fails.
        with (
            _lock,
            torch.cuda.device(self._device),
            torch.cuda.stream(self._stream),
            _no_garbage_collection(),
        ):
            graph = torch.cuda.CUDAGraph()
            for generator in self._generators:
                graph.register_generator_state(generator)
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            ):
                results = tuple(self._function(*args))
            # The generators were reset on this stream. A replay runs on another stream,
            # and must not start before that is done.
            self._stream.synchronize()
        return graph, results


@contextmanager
def _no_garbage_collection():
    """Return a context in which no other recording is deleted by garbage collection.

    Deleting one would spoil the recording that is being made.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _places(args):
    """Yield the address and shape of all tensors."""
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg.data_ptr(), arg.shape
        elif is_dataclass(arg):
            yield from _places(vars(arg).values())
        elif isinstance(arg, tuple):
            yield from _places(arg)
