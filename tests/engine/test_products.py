import numpy as np
import pytest
import torch

from skcae.engine import products
from skcae.engine.network import Architecture
from skcae.engine.objective import make_gradient
from skcae.engine.products import fastest_product, onednn_product, pytorch_product

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)
PRODUCTS = [pytorch_product, pytest.param(onednn_product, marks=needs_onednn)]


@pytest.fixture
def matrices(rng):
    """a, b and what to add: of shapes (5, 4), (4, 3), (5, 3), and transposed too."""
    arrays = [rng.normal(size=s).astype(np.float32) for s in [(5, 4), (4, 3), (5, 3)]]
    plain = [torch.tensor(array) for array in arrays]
    transposed = [torch.tensor(array.T.copy()).T for array in arrays]
    return plain, transposed


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("transposes_a", [False, True])
@pytest.mark.parametrize("transposes_b", [False, True])
@pytest.mark.parametrize("gives_out", [False, True])
def test_products_are_numpys(matrices, product, transposes_a, transposes_b, gives_out):
    a, b = matrices[transposes_a][0], matrices[transposes_b][1]
    total = matrices[0][2]
    row = total[0].clone()
    expected = a.numpy().astype(float) @ b.numpy()
    cases = [
        ((), {}, expected),
        ((row,), {}, expected + row.numpy()),
        ((total,), {}, expected + total.numpy()),
        ((total,), {"beta": 2, "alpha": -3}, -3 * expected + 2 * total.numpy()),
    ]
    for plus, factors, result in cases:
        out = torch.full((5, 3), torch.nan) if gives_out else None
        answer = product(a, b, *plus, **factors, out=out)
        assert not gives_out or answer is out
        np.testing.assert_allclose(answer, result, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("product", PRODUCTS)
def test_what_is_added_may_be_where_to_write(matrices, product):
    (a, b, total), _ = matrices
    expected = total.numpy() + a.numpy() @ b.numpy()
    assert product(a, b, total, out=total) is total
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_result_is_returned_wherever_it_is(matrices, product):
    (a, b, total), _ = matrices
    before = total.clone()
    answer = product(a, b, total, scratch=torch.empty(5, 3))
    np.testing.assert_allclose(answer, before + a @ b, rtol=1e-5, atol=1e-6)
    assert torch.equal(total, before)


@pytest.mark.parametrize(
    "dtype, work, has_slow_mkl, expected",
    [
        (torch.float32, 2**20, True, onednn_product),
        (torch.float32, 2**20 - 1, True, pytorch_product),
        (torch.float32, 2**20, False, pytorch_product),
        (torch.float64, 2**20, True, pytorch_product),
        (torch.bfloat16, 2**20, True, pytorch_product),
    ],
)
def test_the_rule(monkeypatch, dtype, work, has_slow_mkl, expected):
    monkeypatch.setattr(products, "_has_slow_mkl", lambda: has_slow_mkl)
    assert fastest_product(torch.zeros(1, dtype=dtype), work) is expected


def test_the_rule_looks_at_the_processor(monkeypatch):
    names = iter(["AMD EPYC", "Intel Xeon", None])
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"cpu_name": next(names)}, raising=False
    )
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    answers = []
    for _ in range(3):
        products._has_slow_mkl.cache_clear()
        answers.append(products._has_slow_mkl())
    products._has_slow_mkl.cache_clear()
    has_both = (
        torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    )
    assert answers == [has_both, False, False]


@needs_onednn
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_gradients_are_the_same_with_both(monkeypatch, rng, tied, lam):
    architecture = Architecture((6, 4), tied=tied)
    flat = torch.tensor(rng.normal(size=architecture.n_parameters())).float()
    x = torch.tensor(rng.normal(size=(7, 6))).float()
    monkeypatch.setattr(products, "_ONEDNN_WORK", 0)
    gradients = []
    for has_slow_mkl in (False, True):
        monkeypatch.setattr(products, "_has_slow_mkl", lambda has=has_slow_mkl: has)
        gradient = make_gradient(
            architecture,
            flat,
            loss="squared_error",
            lam=lam,
            batch_size=7,
            dtype=torch.float32,
        )
        terms = gradient(x)
        gradients.append([gradient.gradient.numpy(), *map(float, terms)])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
