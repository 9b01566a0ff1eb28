"""Problems, oracles and settings shared by the engine's tests.

They are fixtures that return functions, so that test files needn't import each other.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from skcae.engine import optimizer
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.optimizer import orthogonalize


def pytest_make_parametrize_id(val):
    if isinstance(val, torch.dtype):
        return str(val).removeprefix("torch.")
    return None


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def make_problem(rng):
    """Return a function that draws parameters and a batch: (flat, x).

    Pre-activations are of order one and of both signs, so that units with a kink are
    on either side of it; x lies in (0, 1), which every loss accepts.
    """

    def make(architecture, n_samples=7, dtype=torch.float64):
        flat = torch.tensor(rng.normal(size=architecture.n_parameters()))
        x = torch.tensor(rng.uniform(size=(n_samples, architecture.sizes[0])))
        parameters = architecture.view(flat)
        layers = zip(parameters.encoder_weights, parameters.encoder_biases, strict=True)
        for weight, bias in layers:
            bias.mul_(0.3).sub_(0.5 * weight.sum(dim=0))
        return flat.to(dtype), x.to(dtype)

    return make


@pytest.fixture
def central_differences():
    """Return the function that differentiates f(vector) -> scalar numerically."""

    def differentiate(function, at, step=1e-5):
        gradient = torch.empty_like(at)
        for i in range(len(at)):
            shift = torch.zeros_like(at)
            shift[i] = step
            difference = function(at + shift) - function(at - shift)
            gradient[i] = difference / (2 * step)
        return gradient

    return differentiate


@pytest.fixture
def materialised_jacobian():
    """Return the function that computes (n, n_hidden, n_features) by autograd.

    The encoder is written out here; of the engine's, only s(a) is used. The result can
    be differentiated by the parameters.
    """

    def compute(architecture, parameters, x):
        value = ACTIVATIONS[architecture.activation].value

        def code(row):
            for weight, bias in zip(
                parameters.encoder_weights, parameters.encoder_biases, strict=True
            ):
                row = value(row @ weight + bias)
            return row

        return torch.func.vmap(torch.func.jacrev(code))(x)

    return compute


@contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


_SETTINGS = {
    "inference_mode": torch.inference_mode,
    "no_grad": lambda: torch.set_grad_enabled(False),
    "grad": lambda: torch.set_grad_enabled(True),
    "float64": lambda: _default_dtype(torch.float64),
    "bfloat16": lambda: _default_dtype(torch.bfloat16),
    "meta": lambda: _default_device("meta"),
}


@pytest.fixture(params=sorted(_SETTINGS))
def torch_setting(request):
    """A setting that some other code of the process may have made.

    Calling it returns a context manager, which undoes the setting.
    """
    return _SETTINGS[request.param]


@pytest.fixture
def muon_dtypes(monkeypatch):
    """Return the set of dtypes that Muon is asked to compute in, on layers of any size.

    It fills as steps are made.
    """
    dtypes = set()

    def recorded(matrix, dtype):
        dtypes.add(dtype)
        return orthogonalize(matrix, dtype)

    monkeypatch.setattr(optimizer, "orthogonalize", recorded)
    monkeypatch.setattr(optimizer, "_NARROW_SIZE", 1)
    return dtypes
