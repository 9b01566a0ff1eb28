import numpy as np
import pytest
import torch

from skcae.engine.optimizer import Adam


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
    optimizer = Adam(parameters, gradient, learning_rates[0])
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
    optimizer = Adam(parameters, gradient, 0.1)
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
    second = Adam(first, gradient, 0.1)
    for name, tensor in memory.items():
        second.memory[name].copy_(tensor)
    for value in gradients[2:]:
        gradient.copy_(torch.from_numpy(value))
        second.step()
    assert torch.equal(first, whole)
