import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.utils._python_dispatch import TorchDispatchMode

from skcae.engine import corruption, penalties
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.corruption import CORRUPTIONS
from skcae.engine.device import make_generator
from skcae.engine.losses import LOSSES
from skcae.engine.network import Architecture, Parameters
from skcae.engine.objective import (
    AutogradGradient,
    ClosedFormGradient,
    make_gradient,
    objective,
)
from skcae.engine.penalties import PENALTIES
from skcae.engine.reconstruction import Formed, Gram, needs_no_reconstruction


def automatic(architecture, flat, *, loss, batch_size, dtype, alpha=0.0, **settings):
    """The gradient by autograd, whatever the architecture."""
    weights = [settings.get(penalty.weight, 0) for penalty in PENALTIES.values()]
    return AutogradGradient(
        architecture,
        flat,
        weights,
        partial(objective, loss=loss, **settings),
        batch_size=batch_size,
        dtype=dtype,
        alpha=alpha,
    )


def closed_form(architecture, flat, **kwargs):
    """The gradient in closed form, with the reconstruction formed."""
    gradient = make_gradient(architecture, flat, **kwargs)
    assert isinstance(gradient.reconstruction, Formed)
    return gradient


KINDS = [automatic, closed_form]

all_kinds = pytest.mark.parametrize("kind", KINDS)
all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
all_outputs = pytest.mark.parametrize(
    "loss, output",
    [
        (loss, output)
        for loss in sorted(LOSSES)
        for output in LOSSES[loss].output_activations
    ],
)
# Of the pairs of a loss and an output those that end a decoder.
all_losses = pytest.mark.parametrize(
    "loss, output",
    [
        ("cross_entropy", "sigmoid"),
        ("squared_error", "identity"),
        ("squared_error", "sigmoid"),
    ],
)
tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
without_or_with_penalty = pytest.mark.parametrize("lam", [0, 0.3])


@pytest.fixture
def mean_objective(materialised_jacobian):
    """The objective with everything written out but s, s_out and the loss."""

    def compute(architecture, flat, x, loss, lam):
        parameters = architecture.view(flat)
        (weight,), (bias,), (decoder_weight,), (decoder_bias,) = parameters
        h = ACTIVATIONS[architecture.activation].value(x @ weight + bias)
        z = h @ decoder_weight + decoder_bias
        output = ACTIVATIONS[architecture.output_activation]
        reconstruction = LOSSES[loss].per_sample(z, x, output).sum() / len(x)
        if lam == 0:
            return reconstruction
        jacobian = materialised_jacobian(architecture, parameters, x)
        return reconstruction + lam * jacobian.square().sum() / len(x)

    return compute


def evaluate(gradient, x):
    """Return the mean objective by what a gradient's call returns."""
    return gradient.total(gradient(x)) / len(x)


# Value for value


@pytest.fixture
def given_weights(rng):
    """A sigmoid encoder with a linear decoder, as arrays: x, W, b, V, c."""
    x = rng.uniform(size=(9, 6))
    return x, *(rng.normal(size=shape) for shape in [(6, 4), 4, (4, 6), 6])


def compute_all_ways(given, lam):
    """Return the mean objective as computed by each of the engine's three ways."""
    x, *blocks = map(torch.tensor, given)
    architecture = Architecture((6, 4), "sigmoid", "identity")
    weight, bias, decoder_weight, decoder_bias = blocks
    order = [weight, decoder_weight, bias, decoder_bias]
    flat = torch.cat([block.reshape(-1) for block in order])
    terms = objective(architecture, architecture.view(flat), x)
    values = [(terms.reconstruction + lam * terms.contraction).mean().item()]
    for kind in KINDS:
        gradient = kind(
            architecture,
            flat,
            loss="squared_error",
            lam=lam,
            batch_size=len(x),
            dtype=torch.float64,
        )
        values.append(evaluate(gradient, x).item())
    return values


@pytest.mark.parametrize("lam", [0, 0.1, 3])
def test_objective_is_the_formula_with_the_jacobian_by_autograd(given_weights, lam):
    # L = ‖x − x̂‖² + λ ‖J_h(x)‖², mean over samples
    x, weight, bias, decoder_weight, decoder_bias = map(torch.tensor, given_weights)

    def encode(row):
        return 1 / (1 + torch.exp(-(row @ weight + bias)))

    total = 0
    for row in x:
        reconstruction = encode(row) @ decoder_weight + decoder_bias
        jacobian = torch.autograd.functional.jacobian(encode, row)
        total += ((row - reconstruction) ** 2).sum() + lam * (jacobian**2).sum()
    expected = total.item() / len(x)

    values = compute_all_ways(given_weights, lam)
    np.testing.assert_allclose(values, expected, rtol=1e-10)


@pytest.mark.parametrize("lam", [0, 1e-4, 0.1])
def test_objective_is_that_of_the_keras_snippet_with_lam_rescaled(given_weights, lam):
    x, weight, bias, decoder_weight, decoder_bias = given_weights
    n_features = x.shape[1]
    h = expit(x @ weight + bias)
    reconstruction = h @ decoder_weight + decoder_bias
    # The snippet: mse = K.mean(K.square(y_true - y_pred), axis=1); W = K.transpose(W);
    # dh = h * (1 - h); lam * K.sum(dh**2 * K.sum(W**2, axis=1), axis=1)
    mse = np.mean((x - reconstruction) ** 2, axis=1)
    dh = h * (1 - h)
    contractive = lam * np.sum(dh**2 * np.sum(weight.T**2, axis=1), axis=1)
    snippet = np.mean(mse + contractive)

    values = compute_all_ways(given_weights, n_features * lam)
    np.testing.assert_allclose(values, n_features * snippet, rtol=1e-10)


def test_objective_is_per_sample(make_problem):
    architecture = Architecture((5, 3), "tanh")
    flat, x = make_problem(architecture)
    terms = objective(architecture, architecture.view(flat), x)
    alone = objective(architecture, architecture.view(flat), x[2:3])
    for term, single in zip(terms, alone, strict=True):
        assert term.shape == (len(x),)
        torch.testing.assert_close(term[2:3], single, rtol=1e-12, atol=0)


# The gradient


@all_outputs
@tied_or_not
def test_closed_form_equals_autograd_at_every_output(loss, output, tied, make_problem):
    check_closed_form("tanh", loss, output, tied, 0.3, make_problem)


@all_activations
@all_losses
@tied_or_not
@without_or_with_penalty
def test_closed_form_equals_autograd(activation, loss, output, tied, lam, make_problem):
    check_closed_form(activation, loss, output, tied, lam, make_problem)


def check_closed_form(activation, loss, output, tied, lam, make_problem):
    architecture = Architecture((5, 4), activation, output, tied)
    flat, x = make_problem(architecture, n_samples=19)
    closed, general = (
        kind(
            architecture,
            flat,
            loss=loss,
            lam=lam,
            batch_size=8,
            dtype=torch.float64,
        )
        for kind in [closed_form, automatic]
    )
    # Full batches, and smaller ones that leave part of the buffers as it was.
    for batch in [*x.split(8), x[5:13], x[2:7], x[8:9]]:
        for computed, expected in zip(closed(batch), general(batch), strict=True):
            torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            closed.gradient, general.gradient, rtol=1e-10, atol=1e-10
        )


@all_activations
@all_losses
@tied_or_not
@without_or_with_penalty
def test_gradient_is_that_of_the_materialised_objective(
    activation, loss, output, tied, lam, make_problem, mean_objective
):
    architecture = Architecture((5, 4), activation, output, tied)
    flat, x = make_problem(architecture)
    leaf = flat.clone().requires_grad_()
    expected = mean_objective(architecture, leaf, x, loss, lam)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    for kind in KINDS:
        gradient = kind(
            architecture, flat, loss=loss, lam=lam, batch_size=7, dtype=torch.float64
        )
        value = evaluate(gradient, x)
        torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            gradient.gradient, expected_gradient, rtol=1e-10, atol=1e-10
        )


@all_activations
@all_losses
@tied_or_not
def test_gradient_matches_central_differences(
    activation,
    loss,
    output,
    tied,
    make_problem,
    mean_objective,
    central_differences,
):
    architecture = Architecture((3, 2), activation, output, tied)
    flat, x = make_problem(architecture, n_samples=4)
    expected = central_differences(
        lambda flat: mean_objective(architecture, flat, x, loss, 0.3), flat
    )
    for kind in KINDS:
        gradient = kind(
            architecture, flat, loss=loss, lam=0.3, batch_size=4, dtype=torch.float64
        )
        gradient(x)
        torch.testing.assert_close(gradient.gradient, expected, rtol=1e-6, atol=1e-7)


def written_out(flat, x, target, sizes, tied, loss, output, lam, gamma, alpha, steps):
    """The mean objective of a sigmoid network, without any of the engine's code."""
    shapes = list(itertools.pairwise(sizes))
    depth = len(shapes)
    if not tied:
        shapes += [shape[::-1] for shape in shapes[::-1]]
    parts = flat.split([*map(math.prod, shapes), *sizes[1:], *sizes[-2::-1]])
    weights = [p.view(s) for p, s in zip(parts, shapes, strict=False)]
    biases = parts[len(shapes) :]
    decoder = [w.T for w in weights[::-1]] if tied else weights[depth:]

    def encode(row):
        for weight, bias in zip(weights[:depth], biases[:depth], strict=True):
            row = 1 / (1 + torch.exp(-(row @ weight + bias)))
        return row

    def jacobians(rows):
        return torch.func.vmap(torch.func.jacrev(encode))(rows)

    y = encode(x)
    for i, (weight, bias) in enumerate(zip(decoder, biases[depth:], strict=True)):
        y = y @ weight + bias
        if i + 1 < depth or output == "sigmoid":
            y = 1 / (1 + torch.exp(-y))
    if loss == "squared_error":
        total = ((target - y) ** 2).sum()
    else:
        total = -(target * y.log() + (1 - target) * (1 - y).log()).sum()
    total = total + lam * (jacobians(x) ** 2).sum()
    if gamma > 0:
        changes = [((jacobians(x + e) - jacobians(x)) ** 2).sum() for e in steps]
        total = total + gamma * sum(changes) / len(steps)
    return total / len(x) + alpha * sum((w**2).sum() for w in weights)


@pytest.mark.parametrize("sizes", [(5, 4), (6, 4, 3), (3, 5, 2, 4)], ids=str)
@all_losses
@tied_or_not
@pytest.mark.parametrize("gamma", [0, 0.7])
@pytest.mark.parametrize("alpha", [0, 0.2])
def test_all_terms_of_a_corrupted_batch(
    sizes, loss, output, tied, gamma, alpha, make_problem, rng
):
    architecture = Architecture(sizes, "sigmoid", output, tied)
    flat, target = make_problem(architecture)
    x = target + torch.tensor(0.5 * rng.normal(size=target.shape))
    settings = {"loss": loss, "lam": 0.3, "gamma": gamma, "alpha": alpha}
    gradient = make_gradient(
        architecture,
        flat,
        **settings,
        sigma=0.4,
        generator=make_generator(5),
        batch_size=len(x),
        dtype=torch.float64,
    )
    terms = gradient(x, target)
    value = gradient.total(terms) / len(x) + gradient.weight_decay()

    steps = torch.empty(2, *x.shape).normal_(0, 0.4, generator=make_generator(5))
    leaf = flat.clone().requires_grad_()
    expected = written_out(
        leaf, x, target, sizes, tied, output=output, steps=steps, **settings
    )
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(
        gradient.gradient, expected_gradient, rtol=1e-10, atol=1e-10
    )


@all_kinds
@pytest.mark.parametrize("lam", [0, 0.3])
def test_returned_sums_are_the_terms_over_the_batch(kind, lam, make_problem):
    # With lam = 0 too: the history shows how contractive a plain autoencoder is.
    architecture = Architecture((5, 4), "tanh")
    flat, x = make_problem(architecture)
    gradient = kind(
        architecture,
        flat,
        loss="squared_error",
        lam=lam,
        batch_size=7,
        dtype=torch.float64,
    )
    terms = objective(architecture, architecture.view(flat), x)
    for total, term in zip(gradient(x), terms, strict=True):
        assert total.shape == ()
        assert not total.requires_grad
        torch.testing.assert_close(total, term.sum(), rtol=1e-12, atol=0)


# Without the reconstruction


@pytest.fixture
def both_forms(make_problem, rng):
    """Return a function that makes both gradients, a batch and its target."""

    def make(activation, tied, corrupts, dtype=torch.float64, n_samples=19, **settings):
        architecture = Architecture((6, 4), activation, tied=tied)
        flat, target = make_problem(architecture, n_samples, dtype)
        x = target
        if corrupts:
            x = target + torch.tensor(0.5 * rng.normal(size=target.shape)).to(dtype)
        centre = torch.tensor(rng.uniform(size=6)).to(dtype)
        options = {"loss": "squared_error", "batch_size": n_samples, "dtype": dtype}
        formed, gram = (
            make_gradient(
                architecture,
                flat,
                centre=point,
                corrupts=corrupts,
                **options,
                **settings,
            )
            for point in (None, centre)
        )
        assert isinstance(gram.reconstruction, Gram)
        return formed, gram, x, target, centre

    return make


@all_activations
@tied_or_not
@pytest.mark.parametrize("corrupts", [False, True], ids=["clean", "corrupted"])
@pytest.mark.parametrize("settings", [{"lam": 0}, {"lam": 0.3, "alpha": 0.2}], ids=str)
def test_gram_form_is_the_other_form(activation, tied, corrupts, settings, both_forms):
    formed, gram, x, target, centre = both_forms(activation, tied, corrupts, **settings)
    # Full batches, and smaller ones that leave part of the buffers as it was.
    for rows in (slice(None), slice(5, 13), slice(8, 9)):
        expected = formed(x[rows], target[rows])
        computed = gram(x[rows], target[rows])
        constant = (target[rows] - centre).square().sum()
        torch.testing.assert_close(
            computed.reconstruction + constant,
            expected.reconstruction,
            rtol=1e-10,
            atol=1e-10,
        )
        torch.testing.assert_close(computed.contraction, expected.contraction)
        torch.testing.assert_close(
            gram.gradient, formed.gradient, rtol=1e-10, atol=1e-10
        )


@tied_or_not
@pytest.mark.parametrize("offset", [0, 100])
def test_gram_form_reports_small_losses_of_float32(tied, offset, rng):
    # Near a perfect reconstruction, where the terms of the loss cancel, and with a mean
    # far from zero: right to a millionth of the variance.
    n_samples = 1000
    basis = torch.linalg.qr(torch.tensor(rng.normal(size=(8, 3)))).Q
    x = torch.tensor(rng.normal(size=(n_samples, 3))) @ basis.T
    x += 1e-4 * torch.tensor(rng.normal(size=x.shape)) + offset
    architecture = Architecture((8, 3), "identity", tied=tied)
    mean = x.mean(dim=0)
    parameters = Parameters([basis], [-mean @ basis], [basis.T], [mean])
    flat = architecture.flatten(parameters)
    gram = make_gradient(
        architecture,
        flat.float(),
        loss="squared_error",
        lam=0,
        centre=mean.float(),
        batch_size=n_samples,
        dtype=torch.float32,
    )
    x = x.float()
    constant = (x.double() - mean.float().double()).square().sum()
    exact = objective(
        architecture, architecture.view(flat.float().double()), x.double()
    )
    loss = gram(x).reconstruction.double() + constant
    variance = x.double().var(dim=0).sum() * n_samples
    tolerance = 1e-6 if offset == 0 else 1e-4
    assert exact.reconstruction.sum() < 1e-6 * variance or offset
    assert abs(loss - exact.reconstruction.sum()) < tolerance * variance


@pytest.mark.parametrize(
    "tied, corrupts, n_hidden, expected",
    [
        (True, False, 64, True),
        (True, False, 600, True),
        (True, False, 1000, False),
        (True, True, 100, True),
        (True, True, 300, False),
        (False, False, 100, True),
        (False, False, 300, False),
    ],
)
def test_fewer_multiplications_decide(tied, corrupts, n_hidden, expected):
    # At 784 features and 1024 rows, by the counts of the two classes' docstrings.
    n, d = 1024, 784
    products = 2 if tied and not corrupts else 4
    gram = products * n * d * n_hidden + 2 * d * n_hidden**2 + 2 * n * n_hidden**2
    assert (gram < 5 * n * d * n_hidden) == expected
    architecture = Architecture((d, n_hidden), tied=tied)

    def chosen(loss="squared_error", dtype=torch.float32, architecture=architecture):
        return needs_no_reconstruction(architecture, loss, dtype, n, corrupts)

    assert chosen() == expected
    assert not chosen(dtype=torch.bfloat16)
    sigmoid = Architecture((d, n_hidden), output_activation="sigmoid", tied=tied)
    assert not chosen(architecture=sigmoid)
    assert not chosen("cross_entropy", architecture=sigmoid)
    assert not chosen(architecture=Architecture((d, n_hidden, 5), tied=tied))
    # Small products are dwarfed by the time that their calls take.
    assert not chosen(architecture=Architecture((30, n_hidden), tied=tied))


@all_kinds
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parameters_are_read_anew_and_arguments_left_alone(kind, dtype, make_problem):
    architecture = Architecture((5, 4), "tanh")
    flat, x = make_problem(architecture, dtype=torch.float32)
    if dtype == torch.float64:
        flat = flat.double()
    x = x.to(dtype)
    kwargs = {"loss": "squared_error", "lam": 0.3, "batch_size": 7, "dtype": dtype}
    gradient = kind(architecture, flat, **kwargs)
    gradient(x)
    first = gradient.gradient.clone()
    batch, parameters = x.clone(), flat.clone()
    gradient(x)
    assert torch.equal(gradient.gradient, first)
    assert torch.equal(x, batch)
    assert torch.equal(flat, parameters)

    flat.mul_(0.5)
    gradient(x)
    fresh = kind(architecture, flat.clone(), **kwargs)
    fresh(x)
    assert not torch.equal(gradient.gradient, first)
    assert torch.equal(gradient.gradient, fresh.gradient)


@all_activations
@all_losses
@tied_or_not
def test_bfloat16_gradient_is_within_a_few_percent(
    activation, loss, output, tied, make_problem, mean_objective
):
    architecture = Architecture((20, 10), activation, output, tied)
    flat, x = make_problem(architecture, n_samples=300, dtype=torch.float32)
    # Values that bfloat16 can hold, so that only the arithmetic is compared: the
    # rounding of an input can move a unit across its kink.
    flat = (0.4 * flat).bfloat16().float()
    x = x.bfloat16()
    leaf = flat.double().requires_grad_()
    exact = x.double()
    terms = objective(architecture, architecture.view(leaf.detach()), exact, loss=loss)
    value = mean_objective(architecture, leaf, exact, loss, 0.3)
    (expected,) = torch.autograd.grad(value, leaf)
    for kind in KINDS:
        narrow = kind(
            architecture, flat, loss=loss, lam=0.3, batch_size=300, dtype=torch.bfloat16
        )
        for computed, term in zip(narrow(x), terms, strict=True):
            assert computed.dtype == torch.float32
            torch.testing.assert_close(computed.double(), term.sum(), rtol=0.02, atol=0)
        assert narrow.gradient.dtype == torch.float32
        error = (narrow.gradient.double() - expected).norm()
        # Most combinations reach 1 %; s'' of relu and softsign jumps where a changes
        # sign.
        assert error < 0.1 * expected.norm()


@all_kinds
@tied_or_not
def test_float32_gradient_is_close_to_float64(kind, tied, make_problem):
    architecture = Architecture((20, 10), tied=tied)
    flat, x = make_problem(architecture, n_samples=40, dtype=torch.float32)
    kwargs = {"loss": "squared_error", "lam": 0.3, "batch_size": 40}
    narrow = kind(architecture, flat, dtype=torch.float32, **kwargs)
    exact = kind(architecture, flat.double(), dtype=torch.float64, **kwargs)
    narrow(x)
    exact(x.double())
    assert narrow.gradient.dtype == torch.float32
    error = (narrow.gradient.double() - exact.gradient).norm()
    assert error < 1e-5 * exact.gradient.norm()


def test_one_layer_gets_the_closed_form_and_more_get_autograd():
    kwargs = {"loss": "squared_error", "lam": 0.1, "batch_size": 4}
    for sizes, kind in [((5, 3), ClosedFormGradient), ((5, 4, 3), AutogradGradient)]:
        architecture = Architecture(sizes)
        flat = torch.zeros(architecture.n_parameters())
        gradient = make_gradient(architecture, flat, dtype=torch.float32, **kwargs)
        assert type(gradient) is kind


class AllocationRecorder(TorchDispatchMode):
    """Records the operations whose result is a new array rather than an argument's."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        known = {
            value.untyped_storage().data_ptr()
            for value in itertools.chain(args, kwargs.values())
            if isinstance(value, torch.Tensor)
        }
        results = result if isinstance(result, (list, tuple)) else [result]
        for value in results:
            if (
                isinstance(value, torch.Tensor)
                and value.numel() > 1
                and value.untyped_storage().data_ptr() not in known
            ):
                self.found.append((str(func), tuple(value.shape)))
        return result


@all_activations
@all_losses
@tied_or_not
@without_or_with_penalty
def test_closed_form_allocates_no_arrays_in_the_steady_state(
    activation, loss, output, tied, lam, make_problem
):
    architecture = Architecture((5, 4), activation, output, tied)
    flat, x = make_problem(architecture, dtype=torch.float32)
    gradient = closed_form(
        architecture, flat, loss=loss, lam=lam, batch_size=7, dtype=torch.float32
    )
    gradient(x)
    with AllocationRecorder() as recorder:
        gradient(x)
    assert recorder.found == []


def test_allocations_are_seen():
    with AllocationRecorder() as recorder:
        torch.ones(3).add_(1)
    assert [shape for _, shape in recorder.found] == [(3,)]


class TransferRecorder(TorchDispatchMode):
    """Records the operations that take arrays from the CPU to another device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        values = [v for v in args if isinstance(v, torch.Tensor)]
        on_cpu = any(v.device.type == "cpu" for v in values)
        if on_cpu and isinstance(result, torch.Tensor) and result.device.type != "cpu":
            self.found.append(str(func))
        return result


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("gamma", [0, 0.5])
@pytest.mark.parametrize("sizes", [(5, 4), (5, 4, 3)], ids=str)
def test_what_a_step_draws_goes_to_the_device_without_waiting(
    sizes, gamma, name, monkeypatch
):
    sent = []

    def copy_without_waiting(values, out):
        sent.append((values.device.type, out.device.type))
        return out

    for module in (corruption, penalties):
        monkeypatch.setattr(module, "copy_without_waiting", copy_without_waiting)
    architecture = Architecture(sizes)
    generator = make_generator(0)
    gradient = make_gradient(
        architecture,
        torch.empty(architecture.n_parameters(), device="meta"),
        loss="squared_error",
        lam=0.1,
        gamma=gamma,
        sigma=0.1,
        n_projections=1,
        generator=generator,
        batch_size=7,
        dtype=torch.float32,
    )
    batch = torch.empty(7, 5, device="meta")
    with TransferRecorder() as recorder:
        x = CORRUPTIONS[name](batch, 0.3, torch.empty_like(batch), generator)
        gradient(x, batch)
    assert recorder.found == []
    # The corruption; the projections, in two parts, for each penalty; the steps.
    n_penalties = 1 + (gamma > 0)
    expected = 1 + (len(sizes) > 2) * 2 * n_penalties + (gamma > 0)
    assert sent == expected * [("cpu", "meta")]


def test_transfers_are_seen():
    with TransferRecorder() as recorder:
        torch.ones(3).to("meta")
        torch.empty(3, device="meta").copy_(torch.ones(3))
    assert recorder.found == ["aten._to_copy.default", "aten.copy_.default"]
