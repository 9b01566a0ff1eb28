"""Devices, number formats and random generators, named by plain strings and ints."""

import ctypes
import functools
import os
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from threadpoolctl import ThreadpoolController

PRECISIONS = {
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


# The process in which PyTorch may have started threads, for this package at least.
_pid = None


@contextmanager
def _living_threads():
    """One thread in a process that was forked from one where there were several.

    A fork doesn't copy them, and GNU's OpenMP would wait for them forever.
    """
    global _pid
    _pid = _pid or os.getpid()
    if os.getpid() == _pid:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def isolated(function):
    """Run ``function`` without recording gradients, whatever the caller's grad mode.

    The caller may be in ``torch.inference_mode()``, whose tensors can't be updated
    outside of it, or in ``torch.autocast``, which would change the arithmetic; so this
    leaves both. All of these settings are per thread and restored. It also makes do
    with the threads that there are.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with (
            _living_threads(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            return function(*args, **kwargs)

    return wrapper


def resolve_device(name):
    """Return the `torch.device` that ``name`` means on this machine.

    Parameters
    ----------
    name : str
        "auto" (CUDA if there is one, else the CPU), or what `torch.device` accepts.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    allowed = "'auto', 'cpu', 'cuda', 'cuda:<index>' or 'mps'"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device must be {allowed}. Got {name!r} instead.")
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= available:
        raise ValueError(
            f"device={name!r} is not available: this machine has {available} "
            f"device(s) of type {device.type!r}. Use device='auto' or 'cpu'."
        )
    return device


def has_fast_bfloat16(device):
    """Return whether the device has matrix instructions for bfloat16.

    Without them it is emulated, several times slower than float32. A PyTorch too old
    to tell what a CPU can do counts as without.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    names = ("amx_bf16", "avx512_bf16", "bf16")
    return any(capabilities.get(name, False) for name in names)


def has_float64(device):
    """Return whether the device computes in float64; Apple's GPUs (MPS) don't."""
    return device.type != "mps"


# Up to this many multiplications, a matrix product takes less time than it takes to
# wake another thread and wait for it, many times less where that one's core is busy.
_ONE_THREAD_WORK = 2**21


@functools.cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _set_mkl_threads():
    """Return MKL's function that sets the calling thread's number of threads.

    It returns the number before, 0 for none of its own. None where PyTorch has no MKL,
    or hides it, as on Windows.
    """
    libraries = ctypes.CDLL(torch._C.__file__)  # and all that it was linked to
    return getattr(libraries, "MKL_Set_Num_Threads_Local", None)


@contextmanager
def _one_thread():
    # PyTorch sets a thread's numbers when it first needs them, which must not be later.
    torch.get_num_threads()
    with ExitStack() as stack:
        # After `torch.set_num_threads`, MKL has a number that comes before OpenMP's.
        # That function itself would change what threads that start meanwhile get.
        set_mkl_threads = _set_mkl_threads()
        if set_mkl_threads is not None:
            stack.callback(set_mkl_threads, set_mkl_threads(1))
        stack.enter_context(_openmp().limit(limits=1))
        yield


def threads_for(work):
    """Return a context with one thread for operations too small to share.

    With one thread, and only then, their rounding is the same however many there are.
    The numbers of OpenMP's and MKL's threads are settings of the calling thread alone.

    Parameters
    ----------
    work : int
        Number of multiplications of the operations' largest matrix product; 0 for one
        thread in any case.
    """
    return _one_thread() if work <= _ONE_THREAD_WORK else nullcontext()


@contextmanager
def memory_errors(message):
    """Raise MemoryError where memory runs out; PyTorch has no type for that."""
    try:
        yield
    except RuntimeError as error:
        texts = "allocate memory", "enough memory", "out of memory"
        if not any(text in str(error) for text in texts):
            raise
        raise MemoryError(message) from error


def copy_without_waiting(values, out):
    """Copy ``values`` into ``out``, which may lie on another device, and return it.

    Pinned memory is copied while the GPU computes; PyTorch doesn't give it away again
    before that copy is done.
    """
    to_gpu = out.is_cuda and not values.is_cuda
    return out.copy_(values.pin_memory() if to_gpu else values, non_blocking=to_gpu)


def make_generator(seed, device=None):
    """Return a generator of random numbers.

    It is on the CPU, so that draws don't depend on the device, unless a ``device`` is
    given that is a GPU of CUDA. For a batch a CPU takes longer to draw than such a GPU
    takes for the whole step.
    """
    on_gpu = device is not None and device.type == "cuda"
    return torch.Generator(device if on_gpu else "cpu").manual_seed(int(seed))
