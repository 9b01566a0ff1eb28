import numpy as np
import pytest
import torch

from skcae.engine.network import Architecture
from skcae.engine.optimizer import OPTIMIZERS, Adam, Muon, orthogonalize


def adam_by_the_paper(parameters, gradients, learning_rates):
    """Kingma and Ba, ICLR 2015, algorithm 1."""
    m = v = np.zeros_like(parameters)
    steps = zip(gradients, learning_rates, strict=True)
    for t, (gradient, learning_rate) in enumerate(steps, start=1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        unbiased_m = m / (1 - 0.9**t)
        unbiased_v = v / (1 - 0.999**t)
        parameters = parameters - learning_rate * unbiased_m / (
            np.sqrt(unbiased_v) + 1e-8
        )
    return parameters


@pytest.fixture
def gradients(rng):
    """Of very different sizes; one entry never changes."""
    return rng.normal(size=(6, 5)) * [1e-6, 1.0, 1e6, 0.0, 1.0]


def run(parameters, gradients, learning_rates):
    gradient = torch.empty_like(parameters)
    optimizer = Adam(None, parameters, gradient, learning_rates[0])
    steps = zip(gradients, learning_rates, strict=True)
    for value, optimizer.learning_rate in steps:
        gradient.copy_(torch.from_numpy(value))
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steps_are_the_papers(gradients, dtype, rtol):
    start = np.arange(1.0, 6.0)
    learning_rates = [0.1, 0.1, 0.02, 0.02, 0.0, 0.3]
    parameters = torch.tensor(start, dtype=dtype)
    run(parameters, gradients, learning_rates)
    expected = adam_by_the_paper(start, gradients, learning_rates)
    np.testing.assert_allclose(parameters, expected, rtol=rtol)
    assert parameters[3] == 4
    assert abs(expected - start)[[0, 1, 2, 4]].min() > 0.01


def test_steps_are_those_of_torchs_optimizer(gradients):
    parameters = torch.arange(5.0)
    reference = parameters.clone()
    run(parameters, gradients, [0.1] * 6)
    reference.grad = torch.empty_like(reference)
    optimizer = torch.optim.Adam([reference], lr=0.1, fused=True)
    for value in gradients:
        reference.grad.copy_(torch.from_numpy(value))
        optimizer.step()
    assert torch.equal(parameters, reference)


def test_gradient_is_left_alone_and_the_memory_is_updated_in_place(gradients):
    parameters, gradient = torch.ones(5), torch.tensor(gradients[0]).float()
    before = gradient.clone()
    optimizer = Adam(None, parameters, gradient, 0.1)
    pointers = {name: t.data_ptr() for name, t in optimizer.memory.items()}
    assert not any(t.any() for t in optimizer.memory.values())
    optimizer.step()
    assert torch.equal(gradient, before)
    assert all(t.any() for t in optimizer.memory.values())
    assert pointers == {name: t.data_ptr() for name, t in optimizer.memory.items()}


def test_memory_is_all_there_is_to_carry_over(gradients):
    whole = torch.ones(5)
    run(whole, gradients, [0.1] * 6)
    first = torch.ones(5)
    memory = run(first, gradients[:2], [0.1] * 2).memory
    gradient = torch.empty(5)
    second = Adam(None, first, gradient, 0.1)
    for name, tensor in memory.items():
        second.memory[name].copy_(tensor)
    for value in gradients[2:]:
        gradient.copy_(torch.from_numpy(value))
        second.step()
    assert torch.equal(first, whole)


# Muon


def polynomial(values):
    """What three iterations make of singular values, once divided by the norm."""
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


def orthogonalized(matrix):
    """The same by the singular value decomposition."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u * polynomial(s / np.linalg.norm(s))) @ vt


SHAPES = [(4, 4), (4, 5), (3, 9), (9, 3), (1, 6), (6, 1), (1, 1), (20, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalize_acts_on_singular_values(shape, rng):
    matrix = rng.normal(size=shape)
    actual = orthogonalize(torch.tensor(matrix))
    np.testing.assert_allclose(actual, orthogonalized(matrix), rtol=1e-9, atol=1e-11)
    single = orthogonalize(torch.tensor(matrix, dtype=torch.float32))
    np.testing.assert_allclose(single, actual, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
@pytest.mark.parametrize("shape", [(4, 5), (3, 9)], ids=str)
def test_orthogonalize_does_not_depend_on_the_scale(shape, scale, rng):
    matrix = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    expected = orthogonalize(matrix)
    torch.testing.assert_close(orthogonalize(scale * matrix), expected)
    assert not orthogonalize(torch.zeros(shape)).any()


def test_orthogonalize_drops_what_is_lost_in_rounding(rng):
    matrix = torch.tensor(rng.normal(size=(8, 5)), dtype=torch.float32)
    expected = orthogonalize(torch.cat([matrix, torch.zeros(3, 5)]))
    tail = torch.full((3, 5), 1e-30)
    assert torch.equal(orthogonalize(torch.cat([matrix, tail])), expected)


@pytest.mark.parametrize("shape", [(40, 48), (48, 40), (20, 64)], ids=str)
def test_orthogonalize_in_bfloat16_is_within_a_few_percent(shape, rng):
    # Rows that bfloat16 would lose beside the largest ones, and are not lost.
    rows = np.geomspace(1, 1e-4, shape[0])[:, np.newaxis]
    matrix = torch.tensor(rows * rng.normal(size=shape), dtype=torch.float32)
    actual = orthogonalize(matrix, dtype=torch.bfloat16)
    assert actual.dtype == torch.bfloat16
    expected = orthogonalized(matrix.double().numpy())
    errors = np.linalg.norm(actual.double().numpy() - expected, axis=1)
    assert (errors / np.linalg.norm(expected, axis=1)).max() < 0.07


@pytest.mark.parametrize("shape", [(40, 48), (128, 784), (784, 128)], ids=str)
def test_one_large_singular_value_is_no_harm_to_bfloat16(shape, rng):
    # As gradients have it. To round what it cancels would cost several times as much.
    noise = 0.02 * rng.normal(size=shape)
    matrix = noise + np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    matrix = torch.tensor(matrix, dtype=torch.float32)
    actual = orthogonalize(matrix, dtype=torch.bfloat16)
    expected = orthogonalized(matrix.double().numpy())
    assert np.linalg.norm(actual.double().numpy() - expected, 2) < 0.1


def test_singular_values_end_between_the_stated_bounds():
    # `orthogonalize` promises them from 0.02 times the norm on.
    values = polynomial(np.linspace(0.02, 1, 10_001))
    assert 0.68 < values.min() < values.max() < 1.21


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_muon_steps_are_the_definitions(tied, rng):
    architecture = Architecture((7, 4, 3), tied=tied)
    n_weights, n = architecture.n_weights(), architecture.n_parameters()
    start = rng.normal(size=n)
    gradients = rng.normal(size=(4, n))
    learning_rates = [0.1, 0.1, 0.02, 0.0]

    parameters, gradient = torch.tensor(start), torch.empty(n, dtype=torch.float64)
    optimizer = Muon(architecture, parameters, gradient, learning_rates[0])
    momentum, expected = np.zeros(n_weights), start[:n_weights].copy()
    steps = zip(gradients, learning_rates, strict=True)
    for value, optimizer.learning_rate in steps:
        gradient.copy_(torch.tensor(value))
        optimizer.step()
        assert torch.equal(gradient, torch.tensor(value))
        momentum = 0.95 * momentum + 0.05 * value[:n_weights]
        ahead = 0.95 * momentum + 0.05 * value[:n_weights]
        end = 0
        for m, k in architecture.weight_shapes():
            block = slice(end, end := end + m * k)
            step = 0.2 * max(m, k) ** 0.5 * orthogonalized(ahead[block].reshape(m, k))
            expected[block] -= optimizer.learning_rate * step.ravel()
    np.testing.assert_allclose(parameters[:n_weights], expected, rtol=1e-8, atol=1e-10)
    biases = adam_by_the_paper(
        start[n_weights:], gradients[:, n_weights:], learning_rates
    )
    np.testing.assert_allclose(parameters[n_weights:], biases, rtol=1e-10)


@pytest.mark.parametrize("n_hidden", [127, 128])
def test_muon_multiplies_large_matrices_in_the_given_precision(n_hidden, rng):
    architecture = Architecture((150, n_hidden), tied=True)
    n_weights, n = architecture.n_weights(), architecture.n_parameters()
    gradient = torch.tensor(rng.normal(size=n), dtype=torch.float32)
    steps = []
    for dtype in (None, torch.float32, torch.bfloat16):
        parameters = torch.zeros(n)
        optimizer = Muon(architecture, parameters, gradient, 0.1, dtype)
        optimizer.step()
        assert {t.dtype for t in optimizer.memory.values()} == {torch.float32}
        steps.append(parameters)
    by_default, single, narrow = steps
    assert torch.equal(by_default, single)
    assert torch.equal(narrow[n_weights:], single[n_weights:])
    error = ((narrow - single).norm() / single.norm()).item()
    assert 1e-4 < error < 0.03 if n_hidden == 128 else error == 0


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_memory_of_every_optimizer_is_all_there_is_to_carry_over(name, rng):
    architecture = Architecture((5, 3))
    gradients = torch.tensor(rng.normal(size=(6, architecture.n_parameters())))

    def run(parameters, gradients, memory):
        gradient = torch.empty_like(parameters)
        optimizer = OPTIMIZERS[name](architecture, parameters, gradient, 0.1)
        for key, tensor in memory.items():
            optimizer.memory[key].copy_(tensor)
        for value in gradients:
            gradient.copy_(value)
            optimizer.step()
        return optimizer.memory

    whole, parts = torch.ones(2, architecture.n_parameters(), dtype=torch.float64)
    run(whole, gradients, {})
    memory = run(parts, gradients[:2], {})
    run(parts, gradients[2:], memory)
    assert torch.equal(whole, parts)
    alone = torch.ones_like(parts)
    run(alone, gradients[:2], {})
    run(alone, gradients[2:], {})
    assert not torch.equal(whole, alone)


@pytest.mark.parametrize("shape", [(64, 32), (64, 64)], ids=str)
def test_muon_is_close_to_torchs(shape, rng):
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("this PyTorch has no Muon")
    architecture = Architecture(shape, tied=True)
    n_weights = architecture.n_weights()
    parameters = torch.zeros(architecture.n_parameters())
    gradient = torch.tensor(rng.normal(size=len(parameters)), dtype=torch.float32)
    Muon(architecture, parameters, gradient, 0.1).step()
    reference = torch.zeros(shape, requires_grad=True)
    reference.grad = gradient[:n_weights].view(shape).clone()
    settings = {"weight_decay": 0, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}
    muon([reference], lr=0.1, **settings).step()
    # That one computes in bfloat16.
    actual = parameters[:n_weights].view(shape)
    error = (actual - reference.detach()).norm() / actual.norm()
    assert error < 0.03
