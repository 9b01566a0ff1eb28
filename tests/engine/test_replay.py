"""Recording and replaying, with a stand-in for CUDA; tests/test_gpu.py has the rest."""

import gc
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch

from skcae.engine import replay
from skcae.engine.replay import replayed

CUDA = torch.device("cuda:1")


class Stream:
    def __init__(self, device):
        assert device == CUDA

    def synchronize(self):
        pass


class Graph:
    """Replays what was appended to it while it was recorded."""

    def __init__(self):
        self.work = []

    def register_generator_state(self, generator):
        raise NotImplementedError

    def replay(self):
        for work in self.work:
            work()


@pytest.fixture
def recordings(monkeypatch):
    """Put stand-ins in CUDA's place; return the list of the graphs that are recorded.

    The last one is that under way, if garbage collection is disabled.
    """
    graphs = []

    class Recording:
        def __init__(self, graph, *, pool, stream, capture_error_mode):
            self.graph = graph

        def __enter__(self):
            assert not gc.isenabled()
            graphs.append(self.graph)

        def __exit__(self, *exception):
            pass

    for name, value in {
        "CUDAGraph": Graph,
        "Stream": Stream,
        "graph": Recording,
        "graph_pool_handle": lambda: None,
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(replay, "_N_CALLS_BEFORE", 2)
    monkeypatch.setattr(replay, "_idle_streams", {})
    return graphs


class Batch(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor | None = None


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_other_devices_call_the_function(name):
    def function():
        raise NotImplementedError

    assert replayed(function, torch.device(name)) is function


def test_each_shape_is_recorded_once_after_some_calls(recordings):
    calls = []

    def double(batch):
        calls.append(len(batch.x))
        result = 2 * batch.x
        if not gc.isenabled():
            result.zero_()
            recordings[-1].work.append(lambda: torch.mul(batch.x, 2, out=result))
        return [result]

    buffer = torch.arange(6.0)
    function = replayed(double, CUDA)
    for epoch in range(5):
        for n in (6, 6, 4):
            buffer.add_(epoch)
            (result,) = function(Batch(buffer[:n]))
            assert torch.equal(result, 2 * buffer[:n])
    # Two calls and a recording of each shape.
    assert calls == [6, 6, 4, 6, 4, 4]
    assert len(recordings) == 2
    # Other memory is another batch.
    function(Batch(buffer[:4].clone()))
    assert len(calls) == 7


def test_a_recording_that_fails_can_be_tried_again(recordings):
    fails = True

    def work(x):
        if recordings and fails:
            raise MemoryError
        return [x]

    function, x = replayed(work, CUDA), torch.zeros(3)
    function(x)
    function(x)
    with pytest.raises(MemoryError):
        function(x)
    assert gc.isenabled()
    fails = False
    assert function(x)[0] is x
    assert len(recordings) == 2


def test_streams_are_used_again_but_not_at_the_same_time(recordings):
    first, second = (replayed(list, CUDA) for _ in range(2))
    assert first._stream is not second._stream
    freed = first._stream
    del first
    third, fourth = (replayed(list, CUDA) for _ in range(2))
    assert third._stream is freed
    assert fourth._stream not in (freed, second._stream)
