"""Work on a GPU that is recorded once and then replayed, as a CUDA graph.

A GPU does the small operations of a step faster than Python asks for them. To replay a
recording takes one call, whatever the number of operations.
"""

import gc
import threading
import weakref
from collections import Counter
from contextlib import contextmanager

import torch

# A recording takes as long as some tens of calls, which it then saves.
_N_CALLS_BEFORE = 20

# Only one recording may be under way, and no replay beside it.
_lock = threading.RLock()

# Streams to record on, by device: those that no recordings have been made on which are
# still in use. PyTorch keeps memory for each stream, and older recordings of the same
# stream may lose theirs with the first of them that is deleted.
_idle_streams = {}


def replayed(function, device, generators=()):
    """Return a function that does on the device what ``function`` does.

    On a GPU its work is recorded after some calls with the same tensors, by address and
    shape, and replayed from then on. On other devices it is ``function`` itself.

    Parameters
    ----------
    function : callable
        Takes tensors, or a named tuple of some. It always does the same with them and
        with other memory that it owns, never waits for the device, and returns an
        iterable of tensors. They may be overwritten by the next call.
    device : torch.device
    generators : sequence of torch.Generator, default=()
        Those that ``function`` draws from, all on ``device``.
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
        """Record the work; return the graph and the tensors that it will write."""
        # The stream is entered apart: if recording fails, PyTorch doesn't leave it.
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
            # The generators were reset on this stream; a replay is on another.
            self._stream.synchronize()
        return graph, results


@contextmanager
def _no_garbage_collection():
    """Deleting another recording would spoil the one that is being made."""
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
        elif isinstance(arg, tuple):
            yield from _places(arg)
