"""Sparse rows compute what dense ones do."""

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.testing import assert_close

from skcae.engine import sparse
from skcae.engine.corruption import KEEP_ZEROS, make_corruption
from skcae.engine.device import make_generator
from skcae.engine.finetuning import ClassifierArchitecture, CrossEntropyGradient
from skcae.engine.network import Architecture, encode, initialise
from skcae.engine.objective import make_gradient, objective
from skcae.engine.reconstruction import loss_per_sample
from skcae.engine.rows import as_rows, lost_in_rounding
from skcae.engine.sparse import SparseTensor

CPU = torch.device("cpu")


def csr(n_samples=30, n_features=50, seed=0):
    """Return rows with an empty row, an empty column and explicit zeros."""
    rng = np.random.default_rng(seed)
    X = np.where(
        rng.random((n_samples, n_features)) < 0.1, rng.normal(size=(1, n_features)), 0
    )
    X[3] = 0
    X[:, 7] = 0
    result = scipy.sparse.csr_array(X)
    result.data[::5] = 0
    return result


def int64(X):
    X = X.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def unsorted(X):
    X = X.tocsc().tocsr()[:, ::-1]
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[start:stop] = X.indices[start:stop][::-1].copy()
        X.data[start:stop] = X.data[start:stop][::-1].copy()
    X.has_sorted_indices = False
    return X


@pytest.fixture(
    params=[csr, lambda: int64(csr()), lambda: unsorted(csr())],
    ids=["int32", "int64", "unsorted"],
)
def both(request):
    X = request.param()
    return SparseTensor(X), torch.from_numpy(X.toarray())


def tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_products(both):
    x, dense = both
    weight, bias, b = tensor(50, 4), tensor(4), tensor(30, 4)
    assert_close(sparse.product(x, weight), dense @ weight)
    assert_close(sparse.product(x, weight, bias), dense @ weight + bias)
    out = tensor(30, 4, seed=1)
    assert sparse.product(x, weight, bias, out=out) is out
    assert_close(out, dense @ weight + bias)
    assert_close(sparse.transposed_product(x, b), dense.T @ b)
    assert_close(sparse.transposed_product(x, b[:, 0]), dense.T @ b[:, 0])
    out = tensor(50, 4, seed=1)
    expected = out - 3 * dense.T @ b
    sparse.add_transposed_product(out, x, b, alpha=-3)
    assert_close(out, expected)


def test_statistics(both):
    x, dense = both
    for function in (sparse.mean_row, sparse.squared_norms, sparse.total_variance):
        assert_close(function(x), function(dense))
    centred, expected = sparse.Centred(x), sparse.Centred(dense)
    weight, b = tensor(50, 4), tensor(30, 4)
    assert_close(centred.product(weight), expected.product(weight))
    assert_close(centred.transposed_product(b), expected.transposed_product(b))
    assert_close(centred.variance(), dense.var(dim=0, correction=0).sum())


def test_rows_of_several_processes_are_one_matrix(both):
    x, dense = both
    parts = sparse.concatenated([x[:10], x[10:]])
    assert_close(torch.from_numpy(parts.csr.toarray()), dense)
    assert_close(sparse.concatenated([dense[:10], dense[10:]]), dense)


def test_the_gradient_of_a_product(both):
    x, dense = both
    gradients = []
    for rows in (x, dense):
        weight = tensor(50, 4).requires_grad_()
        bias = tensor(4).requires_grad_()
        value = sparse.product(rows, weight, bias).sin().sum()
        gradients.append(torch.autograd.grad(value, [weight, bias]))
    assert_close(*gradients)


def test_the_values_are_cast_and_the_matrix_stays():
    x = SparseTensor(csr())
    narrow = x.to(torch.float32)
    assert (narrow.dtype, x.dtype) == (torch.float32, torch.float64)
    assert all(same is x for same in (x.to(torch.float64), x.to(CPU), x.cpu()))
    assert (len(x), x.shape) == (30, (30, 50))


@pytest.mark.parametrize("sizes", [(50, 4), (50, 6, 3)], ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_the_expanded_loss(both, sizes, tied, make_problem):
    x, dense = both
    architecture = Architecture(sizes, tied=tied, gain=2.0 if tied else 1.0)
    flat, _ = make_problem(architecture)
    results = []
    for rows in (x, dense):
        leaf = flat.clone().requires_grad_()
        parameters = architecture.view(leaf)
        code = encode(architecture, parameters, rows)[1][-1]
        losses = loss_per_sample(architecture, parameters, code, rows, "squared_error")
        results.append((losses, torch.autograd.grad(losses.sum(), leaf)))
    assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", [(50, 4), (50, 6, 3)], ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("corruption", sorted(KEEP_ZEROS, key=str))
def test_the_gradient_on_sparse_rows_is_that_on_dense_ones(
    both, sizes, tied, corruption, make_problem
):
    x, dense = both
    architecture = Architecture(sizes, tied=tied, gain=2.0 if tied else 1.0)
    flat, _ = make_problem(architecture)
    corrupt = make_corruption(
        corruption, 0.3, None, dtype=x.dtype, device=CPU, generator=make_generator(0)
    )
    corrupted = corrupt(x)
    centre = dense.mean(dim=0) if len(sizes) == 2 else None
    gradient = make_gradient(
        architecture,
        flat,
        loss="squared_error",
        lam=0.3,
        centre=centre,
        corrupts=corruption is not None,
        batch_size=30,
        dtype=torch.float64,
    )
    gradient(corrupted, x)
    leaf = flat.clone().requires_grad_()
    inputs = torch.from_numpy(corrupted.csr.toarray())
    terms = objective(architecture, architecture.view(leaf), inputs, dense, lam=0.3)
    total = (terms.reconstruction + 0.3 * terms.contraction).mean()
    (expected,) = torch.autograd.grad(total, leaf)
    assert_close(gradient.gradient, expected, rtol=1e-10, atol=1e-10)


def test_the_gradient_of_fine_tuning(both):
    x, dense = both
    architecture = ClassifierArchitecture((50, 4, 3))
    gradients = []
    for rows in (x, dense):
        flat = tensor(architecture.n_parameters())
        gradient = CrossEntropyGradient(
            architecture, flat, batch_size=30, dtype=torch.float64
        )
        gradient(rows, torch.arange(30) % 3)
        gradients.append(gradient.gradient)
    assert_close(*gradients)


def test_masking_sets_entries_to_zero_and_leaves_the_others():
    x = SparseTensor(scipy.sparse.csr_array(np.ones((100, 100))))
    corrupt = make_corruption(
        "masking", 0.3, None, dtype=x.dtype, device=CPU, generator=make_generator(0)
    )
    values = corrupt(x).values
    assert set(values.tolist()) == {0.0, 1.0}
    assert 0.67 < values.mean() < 0.73
    assert not torch.equal(corrupt(x).values, values)
    again = [corrupt(x, make_generator(1)).values for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("tied", [False, True])
def test_the_start_is_that_of_dense_rows(both, tied):
    architecture = Architecture((50, 6, 3), tied=tied)
    starts = [initialise(architecture, rows, make_generator(0)) for rows in both]
    assert_close(starts[0][1], starts[1][1], rtol=1e-8, atol=1e-8)
    assert starts[0][2] == pytest.approx(starts[1][2])


@pytest.mark.parametrize(
    "X, stays",
    [
        (scipy.sparse.random_array((20, 2000), density=0.01, format="csr"), True),
        (scipy.sparse.random_array((20, 2000), density=0.1, format="csr"), False),
        (scipy.sparse.random_array((20, 500), density=0.01, format="csr"), False),
        (np.zeros((20, 2000)), False),
    ],
    ids=["thin", "dense", "narrow", "array"],
)
def test_thin_rows_stay_sparse(X, stays):
    rows = as_rows(X)
    assert rows.kept_sparse(CPU, torch.float32).stays_sparse is stays
    assert not rows.kept_sparse(CPU, torch.bfloat16).stays_sparse
    assert not rows.kept_sparse(torch.device("meta"), torch.float32).stays_sparse
    for form in (rows, rows.kept_sparse(CPU, torch.float32)):
        for block in (
            form[2:5],
            form.evenly_spaced(3),
            form.sample(3, make_generator(0)),
        ):
            assert isinstance(block, SparseTensor) is form.stays_sparse


def test_rounding_is_measured_without_making_rows_dense():
    X = scipy.sparse.random_array((50, 2000), density=0.01, format="csr")
    X.data = 1 + 1e-8 * X.data
    assert lost_in_rounding(X, torch.float32) == pytest.approx(
        lost_in_rounding(X.toarray(), torch.float32), rel=1e-6
    )
    assert lost_in_rounding(X, torch.bfloat16) < 1e-6
