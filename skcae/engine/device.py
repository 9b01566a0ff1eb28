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

# Types of a ``device`` parameter.
DEVICE_TYPES = (str, torch.device)


# The process that imported this module. Whether OpenMP has threads in it can't be told,
# since other packages use OpenMP too.
_PID = os.getpid()


@contextmanager
def _living_threads():
    """Return a context with one thread in processes forked after the import.

    A fork copies only one thread. GNU's OpenMP doesn't notice this, and would wait
    forever for the threads that it had started before the fork.
    """
    if os.getpid() == _PID:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def isolated(function):
    """Make ``function`` independent of PyTorch's modes, and safe in a forked process.

    The function records no gradients. It runs outside of ``torch.inference_mode()``,
    whose tensors can't be updated elsewhere, and outside of ``torch.autocast``, which
    would change the arithmetic. These modes belong to the calling thread, and are
    restored. In a forked process the function runs on one thread.
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


def resolve_device(device):
    """Return the `torch.device` that ``device`` means on this machine.

    Parameters
    ----------
    device : str or torch.device
        "auto" (CUDA if there is one, else the CPU), or a device or its name.

    Raises
    ------
    ValueError
        If this machine has no such device.
    """
    name = device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    allowed = "'auto', 'cpu', 'cuda', 'cuda:<index>', 'mps' or one of torch.device"
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
            f"device={str(name)!r} is not available: this machine has {available} "
            f"device(s) of type {device.type!r}. Use device='auto' or 'cpu'."
        )
    return device


def has_fast_bfloat16(device):
    """Return whether the device has matrix instructions for bfloat16.

    Without them bfloat16 is emulated, which is several times slower than float32. Old
    versions of PyTorch can't tell which instructions a CPU has; the result is then
    False.
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


# A matrix product of up to this many multiplications takes less time than waking
# another thread and waiting for it, and much less time if that thread's core is busy.
_ONE_THREAD_WORK = 2**21


@functools.cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _set_mkl_threads():
    """Return MKL's function that sets the calling thread's number of threads.

    That function returns the previous number, or 0 if the thread had none of its own.
    The result is None if PyTorch has no MKL, or hides it, as on Windows.
    """
    libraries = ctypes.CDLL(torch._C.__file__)  # finds PyTorch's libraries as well
    return getattr(libraries, "MKL_Set_Num_Threads_Local", None)


@contextmanager
def _one_thread():
    # PyTorch sets a new thread's numbers of threads at the first call that needs them.
    # This call comes first, so that PyTorch doesn't overwrite the numbers set below.
    torch.get_num_threads()
    with ExitStack() as stack:
        # After `torch.set_num_threads`, MKL ignores OpenMP's number. Products of a few
        # µs can then take up to 20 ms on busy cores. `torch.set_num_threads(1)` can't
        # be used here, since it would affect other threads that start meanwhile.
        set_mkl_threads = _set_mkl_threads()
        if set_mkl_threads is not None:
            stack.callback(set_mkl_threads, set_mkl_threads(1))
        stack.enter_context(_openmp().limit(limits=1))
        yield


def threads_for(work):
    """Return a context that runs small operations on one thread.

    The results of an operation that threads share may depend on the number of threads,
    by rounding. On one thread they don't. Only the calling thread's settings are
    changed.

    Parameters
    ----------
    work : int
        Number of multiplications of the largest matrix product. With 0 the context
        always has one thread.
    """
    return _one_thread() if work <= _ONE_THREAD_WORK else nullcontext()


@contextmanager
def memory_errors(message):
    """Return a context that raises MemoryError with a message if memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        texts = (
            "allocate memory",
            "enough memory",
            "out of memory",
            "Unable to allocate",  # NumPy's
        )
        if not any(text in str(error) for text in texts):
            raise
        raise MemoryError(message) from error


def copy_without_waiting(values, out):
    """Copy ``values`` into ``out``, which may lie on another device, and return it.

    A copy to a GPU goes through pinned memory, so that the CPU doesn't wait for it.
    PyTorch doesn't reuse that memory before the copy is done.
    """
    to_gpu = out.is_cuda and not values.is_cuda
    return out.copy_(values.pin_memory() if to_gpu else values, non_blocking=to_gpu)


def make_generator(seed, device=None):
    """Return a generator of random numbers.

    The generator is on the CPU by default, so that draws don't depend on the device. If
    ``device`` is a CUDA GPU, the generator is there: a CPU takes longer to draw the
    numbers of a batch than the GPU takes for the whole step.
    """
    on_gpu = device is not None and device.type == "cuda"
    return torch.Generator(device if on_gpu else "cpu").manual_seed(int(seed))
