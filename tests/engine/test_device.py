from concurrent.futures import ThreadPoolExecutor
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from skcae.engine.device import (
    PRECISIONS,
    copy_without_waiting,
    has_fast_bfloat16,
    isolated,
    make_generator,
    resolve_device,
    threads_for,
)


@pytest.fixture
def fake_cuda(monkeypatch):
    """Pretend that there are two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cpu:0").type == "cpu"


def test_a_device_of_pytorch_is_a_device(no_accelerator):
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda:1' is not available"):
        resolve_device(torch.device("cuda:1"))
    with pytest.raises(ValueError, match=r"or one of torch.device.* Got .*meta"):
        resolve_device(torch.device("meta"))


def test_auto_without_cuda_is_the_cpu(no_accelerator):
    assert resolve_device("auto") == torch.device("cpu")


def test_auto_prefers_cuda(fake_cuda):
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' is not available.* has 2 device"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cpu:1"])
def test_missing_devices_are_named_in_the_error(name, no_accelerator):
    with pytest.raises(ValueError, match=f"device='{name}' is not available"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x", "CPU", "auto:0", "xpu"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(ValueError, match=r"device must be 'auto', 'cpu'.* Got"):
        resolve_device(name)


def test_precisions_are_floating_point_dtypes():
    assert {"float32", "float64", "bfloat16"} <= set(PRECISIONS)
    for name, dtype in PRECISIONS.items():
        assert dtype.is_floating_point
        assert getattr(torch, name) is dtype


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({}, False),
    ],
)
def test_fast_bfloat16_on_a_cpu(capabilities, expected, monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    assert has_fast_bfloat16(torch.device("cpu")) is expected


def test_fast_bfloat16_where_pytorch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_fast_bfloat16(torch.device("cpu")) is False


@pytest.mark.parametrize(
    "capability, expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_fast_bfloat16_on_a_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bfloat16(torch.device("cuda:1")) is expected


@pytest.mark.parametrize("kind", [int, np.int32, np.int64, np.uint32])
def test_generator_takes_any_integer_seed(kind):
    draw = torch.rand(3, generator=make_generator(kind(5)))
    assert torch.equal(draw, torch.rand(3, generator=make_generator(5)))
    assert not torch.equal(draw, torch.rand(3, generator=make_generator(6)))


def test_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    generator = make_generator(0)
    torch.rand(3, generator=generator)
    assert generator.device.type == "cpu"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_a_generator_of_other_devices_is_on_the_cpu(name):
    generator = make_generator(3, torch.device(name))
    assert generator.device.type == "cpu"
    assert generator.initial_seed() == 3


def test_isolated_functions_make_ordinary_tensors(torch_setting):
    @isolated
    def function(argument, *, keyword):
        """The docstring."""
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        return argument, keyword, torch.zeros(2, device="cpu")

    with torch_setting():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        argument, keyword, tensor = function(1, keyword=2)
        assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    assert (argument, keyword) == (1, 2)
    assert not tensor.is_inference()
    assert function.__name__ == "function"
    assert function.__doc__ == "The docstring."


def test_isolated_restores_the_modes_after_an_error(torch_setting):
    @isolated
    def function():
        raise ZeroDivisionError

    with torch_setting():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with pytest.raises(ZeroDivisionError):
            function()
        assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())


def test_small_work_stays_in_one_thread_of_the_caller():
    def count_in_another_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(112 * 64 * 64):
            assert torch.get_num_threads() == 1
            assert count_in_another_thread() == 2
        assert torch.get_num_threads() == 2
        with threads_for(256 * 784 * 256):
            assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), threads_for(1):
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_thread_is_one_in_a_new_thread_too():
    # PyTorch would set the number that is everyone's when the thread first needs one.
    def count():
        with threads_for(1):
            return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(count).result() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(
    "mkl_get_max_threads" not in torch.__config__.parallel_info(),
    reason="this PyTorch has no MKL",
)
def test_small_work_stays_in_one_thread_of_mkl():
    def mkl_threads():
        (line,) = (
            line
            for line in torch.__config__.parallel_info().splitlines()
            if "mkl_get_max_threads" in line
        )
        return int(line.split(":")[1])

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(1):
            assert mkl_threads() == 1
        assert mkl_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_copies_on_the_cpu(dtype):
    out = torch.zeros(3, dtype=dtype)
    assert copy_without_waiting(torch.tensor([True, False, True]), out) is out
    assert out.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "source, target, pinned",
    [(False, True, True), (True, True, False), (True, False, False)],
)
def test_copies_to_a_gpu_are_of_pinned_memory(source, target, pinned):
    values, out = MagicMock(is_cuda=source), MagicMock(is_cuda=target)
    assert copy_without_waiting(values, out) is out.copy_.return_value
    expected = values.pin_memory.return_value if pinned else values
    out.copy_.assert_called_once_with(expected, non_blocking=pinned)
