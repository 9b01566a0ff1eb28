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

# What a device may be given as.
DEVICE_TYPES = (str, torch.device)


# The process that imported this. Nobody can tell whether OpenMP has threads in it:
# other packages use OpenMP too.
_PID = os.getpid()


@contextmanager
def _living_threads():
    """Return a context with one thread in processes forked after the import.

    A fork copies one thread only. GNU's OpenMP doesn't notice, and would wait forever
    for the threads that it had started before.
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

    It records no gradients. It leaves ``torch.inference_mode()``, whose tensors can't
    be updated outside of it, and ``torch.autocast``, which would change the arithmetic.
    These modes are settings of the calling thread, and are restored. In a forked
    process the function runs on one thread.
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
        If there is no such device here.
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

    Without them bfloat16 is emulated, several times slower than float32. An old PyTorch
    can't tell what a CPU has; the answer is then no.
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


# Up to this many multiplications, a matrix product takes less time than waking another
# thread and waiting for it: many times less if that thread's core is busy.
_ONE_THREAD_WORK = 2**21


@functools.cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _set_mkl_threads():
    """Return MKL's function that sets the calling thread's number of threads.

    The function returns the number before, or 0 if the thread had none of its own. The
    result is None if PyTorch has no MKL, or hides it, as on Windows.
    """
    libraries = ctypes.CDLL(torch._C.__file__)  # finds PyTorch's libraries as well
    return getattr(libraries, "MKL_Set_Num_Threads_Local", None)


@contextmanager
def _one_thread():
    # PyTorch sets a new thread's numbers at the first call that needs them. This call
    # makes it do so now, lest it overwrite the numbers set below.
    torch.get_num_threads()
    with ExitStack() as stack:
        # MKL ignores OpenMP's number after `torch.set_num_threads`, and products of a
        # few µs then take up to 20 ms on busy cores. `torch.set_num_threads(1)` can't
        # be used here: it counts for threads that start meanwhile, too.
        set_mkl_threads = _set_mkl_threads()
        if set_mkl_threads is not None:
            stack.callback(set_mkl_threads, set_mkl_threads(1))
        stack.enter_context(_openmp().limit(limits=1))
        yield


def threads_for(work):
    """Return a context that runs small operations on one thread.

    Threads that share an operation may round differently. On one thread the results
    are the same, however many threads PyTorch has. Only the calling thread's settings
    are changed.

    Parameters
    ----------
    work : int
        Number of multiplications of the largest matrix product. 0 always means one
        thread.
    """
    return _one_thread() if work <= _ONE_THREAD_WORK else nullcontext()


@contextmanager
def memory_errors(message):
    """Raise MemoryError with a message where memory runs out."""
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

    Pinned memory is copied while the GPU computes. PyTorch doesn't reuse that memory
    before the copy is done.
    """
    to_gpu = out.is_cuda and not values.is_cuda
    return out.copy_(values.pin_memory() if to_gpu else values, non_blocking=to_gpu)


def make_generator(seed, device=None):
    """Return a generator of random numbers.

    The generator is on the CPU, so that draws don't depend on the device. It is on
    ``device`` if that is a GPU of CUDA: a CPU takes longer to draw the numbers of a
    batch than such a GPU takes for the whole step.
    """
    on_gpu = device is not None and device.type == "cuda"
    return torch.Generator(device if on_gpu else "cpu").manual_seed(int(seed))
