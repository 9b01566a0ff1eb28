"""Work on a GPU that is recorded once and then replayed, as a CUDA graph.

A GPU does the small operations of a step faster than Python asks for them. To replay a
recording takes one call, whatever the number of operations.
"""

import gc
from contextlib import contextmanager

import torch


def replayed(function, device, generators=()):
    """Return a function that does on the device what ``function`` does.

    On a GPU its work is recorded at the second call with the same tensors, by address
    and shape; at each call after the first one it is replayed. On other devices it is
    ``function`` itself.

    Parameters
    ----------
    function : callable
        Takes tensors, or a named tuple of some. It always does the same with them and
        with other memory that it owns, never waits for the device, and returns tensors.
        They may be overwritten by the next call.
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
        self._recordings = {}

    def __call__(self, *args):
        key = tuple(_places(args))
        if key not in self._recordings:
            # What libraries set up when they are first called can't be recorded.
            self._recordings[key] = None
            return self._function(*args)
        if self._recordings[key] is None:
            self._recordings[key] = self._recorded(args)
        graph, result = self._recordings[key]
        graph.replay()
        return result

    def _recorded(self, args):
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        stream = torch.cuda.Stream(self._device)
        # Other threads may use the GPU meanwhile.
        recording = torch.cuda.graph(
            graph, stream=stream, capture_error_mode="thread_local"
        )
        with _no_garbage_collection(), recording:
            result = self._function(*args)
        # The generators were reset on that stream; a replay on another could be first.
        stream.synchronize()
        return graph, result


@contextmanager
def _no_garbage_collection():
    """Deleting a recording would spoil the one that is being made."""
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
