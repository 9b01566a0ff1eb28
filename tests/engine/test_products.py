import numpy as np
import pytest
import torch

from skcae.engine import products
from skcae.engine.network import Architecture
from skcae.engine.objective import make_gradient
from skcae.engine.optimizer import Muon
from skcae.engine.products import fastest_product, onednn_product, pytorch_product

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)
LARGE = 64, 128, 128
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
    row = torch.stack([total[0], total[1]], dim=1)[:, 0]  # with a stride
    expected = a.numpy().astype(float) @ b.numpy()
    cases = [
        ((), {}, expected),
        ((row,), {}, expected + row.numpy()),
        ((total,), {}, expected + total.numpy()),
        ((total,), {"beta": 2, "alpha": -3}, -3 * expected + 2 * total.numpy()),
        ((row,), {"beta": 2, "alpha": -3}, -3 * expected + 2 * row.numpy()),
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
    "dtype, sizes, has_slow_mkl, expected",
    [
        (torch.float32, LARGE, True, onednn_product),
        (torch.float32, (64, 128, 127), True, pytorch_product),
        (torch.float32, (63, 2**10, 2**10), True, pytorch_product),
        (torch.float32, (2**10, 63, 2**10), True, pytorch_product),
        (torch.float32, LARGE, False, pytorch_product),
        (torch.float64, LARGE, True, pytorch_product),
        (torch.bfloat16, LARGE, True, pytorch_product),
    ],
)
def test_the_rule(monkeypatch, dtype, sizes, has_slow_mkl, expected):
    monkeypatch.setattr(products, "_has_slow_mkl", lambda: has_slow_mkl)
    assert fastest_product(torch.zeros(1, dtype=dtype), sizes) is expected


def test_the_rule_looks_at_the_processor(monkeypatch):
    names = iter(["AMD EPYC", "Intel Xeon", None])
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"cpu_name": next(names)}, raising=False
    )
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    ask = products._has_slow_mkl.__wrapped__  # what is asked once
    answers = [ask() for _ in range(3)]
    has_both = (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
    assert answers == [has_both, False, False]


@pytest.mark.filterwarnings("ignore:TF32")  # which the switch asks for as well
def test_the_rule_heeds_pytorchs_switch(monkeypatch):
    monkeypatch.setattr(products, "_has_slow_mkl", lambda: True)
    with torch.backends.mkldnn.flags(enabled=False):
        assert fastest_product(torch.zeros(1), LARGE) is pytorch_product


@needs_onednn
def test_muon_takes_the_fastest_product(monkeypatch):
    monkeypatch.setattr(products, "_has_slow_mkl", lambda: True)
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return onednn_product(*args, **kwargs)

    monkeypatch.setattr(products, "onednn_product", counted)
    for n_hidden in (4, 128):  # too small, and large enough
        architecture = Architecture((128, n_hidden), tied=True)
        flat = torch.ones(architecture.n_parameters())
        Muon(architecture, flat, torch.ones_like(flat), 0.1).step()
        assert bool(calls) == (n_hidden == 128)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_gradients_are_the_same_with_both(each_product, rng, tied, lam):
    architecture = Architecture((6, 4), tied=tied)
    flat = torch.tensor(rng.normal(size=architecture.n_parameters())).float()
    x = torch.tensor(rng.normal(size=(7, 6))).float()
    gradients = []
    for product in each_product:
        gradient = make_gradient(
            architecture,
            flat,
            loss="squared_error",
            lam=lam,
            batch_size=7,
            dtype=torch.float32,
        )
        assert gradient._product is product
        terms = gradient(x)
        gradients.append([gradient.gradient.numpy(), *map(float, terms)])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
