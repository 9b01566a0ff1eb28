"""A model in a smaller space is that of all features, seen there."""

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.testing import assert_close

from skcae.engine.network import Architecture
from skcae.engine.objective import objective
from skcae.engine.rows import as_rows
from skcae.engine.space import WHOLE, Columns, RowSpace, choose_space
from skcae.engine.training import Trainer

CPU = torch.device("cpu")
ARCHITECTURES = {
    "tied": Architecture((1100, 4), tied=True, gain=2.0),
    "untied": Architecture((1100, 4)),
    "deep": Architecture((1100, 6, 3)),
    "deep, tied": Architecture((1100, 6, 3), tied=True, gain=2.0),
}
all_architectures = pytest.mark.parametrize(
    "architecture", ARCHITECTURES.values(), ids=ARCHITECTURES
)


@pytest.fixture(params=["rows", "columns"])
def problem(request):
    """Return training rows, other rows (as kinds of rows) and the space."""
    rng = np.random.default_rng(0)
    if request.param == "rows":
        X, other = rng.normal(size=(20, 1100)), rng.normal(size=(9, 1100))
        X[1], X[2] = X[0], 0  # fewer dimensions than rows
        rows = as_rows(X)
        return rows, as_rows(other), RowSpace(rows, torch.float64, CPU)
    X, other = (
        scipy.sparse.random_array((20, 1100), density=0.01, format="csr", rng=rng)
        for _ in range(2)
    )
    rows, other = (as_rows(x).kept_sparse(CPU, torch.float64) for x in (X, other))
    return rows, other, Columns(rows)


def dense(rows):
    rows = rows[:]
    return torch.from_numpy(rows.csr.toarray() if hasattr(rows, "csr") else rows)


def parameters_in(space, architecture):
    inner = space.architecture(architecture)
    generator = torch.Generator().manual_seed(0)
    n_parameters = inner.n_parameters()
    flat = torch.randn(n_parameters, generator=generator, dtype=torch.float64)
    return inner, 0.2 * flat


@all_architectures
def test_the_objective_is_that_of_the_lifted_model(problem, architecture):
    rows, other, space = problem
    inner, flat = parameters_in(space, architecture)
    lifted = space.lift(inner.view(flat))
    coordinates, outside = space.held_out(other)
    for x, x_inside, rest in (
        (dense(rows), dense(space.rows(rows)), 0.0),
        (dense(other), dense(coordinates), outside),
    ):
        expected = objective(architecture, lifted, x, lam=0.3)
        actual = objective(inner, inner.view(flat), x_inside, lam=0.3)
        assert_close(actual.contraction, expected.contraction)
        losses = actual.reconstruction + torch.as_tensor(rest)
        assert_close(losses, expected.reconstruction, rtol=1e-10, atol=0)


@all_architectures
def test_projecting_undoes_lifting(problem, architecture):
    _, _, space = problem
    inner, flat = parameters_in(space, architecture)
    back = space.project(space.lift(inner.view(flat)))
    assert_close(inner.flatten(back), flat)


@all_architectures
def test_the_gradient_stays_in_the_space(problem, architecture):
    rows, _, space = problem
    inner, flat = parameters_in(space, architecture)
    whole = architecture.flatten(space.lift(inner.view(flat)))
    gradients = []
    for shape, at, x in (
        (inner, flat, dense(space.rows(rows))),
        (architecture, whole, dense(rows)),
    ):
        leaf = at.clone().requires_grad_()
        terms = objective(shape, shape.view(leaf), x, lam=0.3)
        total = (terms.reconstruction + 0.3 * terms.contraction).mean()
        gradients.append(torch.autograd.grad(total, leaf)[0])
    inside = architecture._replace(gain=1.0), inner._replace(gain=1.0)
    lifted = inside[0].flatten(space.lift(inside[1].view(gradients[0])))
    assert_close(lifted, gradients[1], rtol=1e-8, atol=1e-10)


def test_coordinates_keep_the_products_of_rows():
    X = np.random.default_rng(0).normal(size=(20, 1100))
    rows = as_rows(X)
    coordinates = RowSpace(rows, torch.float64, CPU).rows(rows)[:]
    assert coordinates.shape == (20, 20)
    np.testing.assert_allclose(coordinates @ coordinates.T, X @ X.T)


def sparse_rows(n_columns, n_features=2000):
    X = scipy.sparse.lil_array((40, n_features))
    X[np.arange(40), np.arange(40) % n_columns] = 1.0
    return as_rows(X.tocsr()).kept_sparse(CPU, torch.float32)


@pytest.mark.parametrize(
    "rows, kind",
    [
        (as_rows(np.ones((20, 2000))), RowSpace),
        (as_rows(scipy.sparse.csr_array(np.ones((20, 2000)))), RowSpace),
        (as_rows(np.ones((20, 1000))), type(WHOLE)),  # too few features
        (as_rows(np.ones((1100, 2000))), type(WHOLE)),  # too many rows
        (as_rows(np.ones((900, 2000), np.uint8)), type(WHOLE)),  # for 4 units
        (sparse_rows(30), Columns),
        (sparse_rows(30, 1_000_000), Columns),
    ],
)
def test_a_smaller_space_is_chosen_where_it_pays(rows, kind):
    assert type(choose_space(rows, 4, torch.float32, CPU)) is kind


def trainer(X, arrays=None, **kwargs):
    options = {
        "loss": "squared_error",
        "learning_rate": 0.02,
        "batch_size": 8,
        "precision": "float64",
        "device": CPU,
        "seed": 0,
        "lam": 0.3,
    }
    return Trainer(
        Architecture((X.shape[1], 4), tied=True), X, arrays, **{**options, **kwargs}
    )


def test_training_in_the_row_space_starts_and_goes_on_as_in_the_whole():
    X = np.random.default_rng(0).normal(size=(24, 1100)) / 30
    inside, whole = (trainer(X, only_these_rows=flag) for flag in (True, False))
    assert not inside.space.is_whole
    assert whole.space.is_whole
    assert inside.balanced_lam == pytest.approx(whole.balanced_lam, rel=0.1)
    assert inside.architecture.sizes == whole.architecture.sizes
    assert inside.optimizer.units[0] * 24**0.5 == pytest.approx(
        whole.optimizer.units[0] * 1100**0.5, rel=0.01
    )
    reports = [[run.epoch().objective for _ in range(30)] for run in (inside, whole)]
    np.testing.assert_allclose(*reports, rtol=0.02)
    for run in (inside, whole):
        arrays = run.arrays()
        (weight,), (decoder,) = arrays.encoder_weights, arrays.decoder_weights
        assert weight.shape == (1100, 4)
        np.testing.assert_array_equal(decoder, run.architecture.gain * weight.T)
        # What the whole space says of the lifted parameters.
        again = trainer(X, arrays).mean_objective(X)
        assert run.mean_objective(X) == pytest.approx(again, rel=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"corruption": "masking", "corruption_level": 0.1},
        {"loss": "cross_entropy"},
    ],
    ids=str,
)
def test_what_depends_on_the_axes_is_trained_in_the_whole_space(options):
    X = np.random.default_rng(0).random((24, 1100))
    output = "sigmoid" if "loss" in options else "identity"
    architecture = Architecture((1100, 4), output_activation=output, tied=True)
    settings = {"loss": "squared_error", **options}
    run = Trainer(
        architecture,
        X,
        learning_rate=0.02,
        batch_size=8,
        precision="float32",
        device=CPU,
        seed=0,
        lam=0.3,
        only_these_rows=True,
        **settings,
    )
    assert run.space.is_whole
