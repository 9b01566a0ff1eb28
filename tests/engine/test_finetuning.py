import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from skcae.engine import batches as batches_module
from skcae.engine import finetuning, optimizer
from skcae.engine import rows as rows_module
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.batches import Batch, ShuffledBatches
from skcae.engine.corruption import CORRUPTIONS
from skcae.engine.device import PRECISIONS, make_generator
from skcae.engine.finetuning import (
    ClassifierArchitecture,
    CrossEntropyGradient,
    FineTuner,
    classifier_objective,
)
from skcae.engine.network import encode
from skcae.engine.objective import AutogradGradient
from skcae.engine.optimizer import OPTIMIZERS
from skcae.engine.rows import as_rows

CPU = torch.device("cpu")
DEPTHS = [(6, 4, 3), (6, 5, 4, 3), (6, 5, 7, 4, 2)]

all_activations = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
all_depths = pytest.mark.parametrize("sizes", DEPTHS, ids=str)


@pytest.fixture
def make_batch(rng):
    """Return a function that draws (architecture, flat, batch), in float64."""

    def make(sizes, activation="sigmoid", n_tangents=3, n_samples=7):
        architecture = ClassifierArchitecture(sizes, activation)
        flat = torch.tensor(rng.normal(size=architecture.n_parameters()))
        tangents = rng.normal(size=(n_samples, n_tangents, sizes[0]))
        return (
            architecture,
            flat,
            Batch(
                torch.tensor(rng.normal(size=(n_samples, sizes[0]))),
                torch.tensor(rng.integers(sizes[-1], size=n_samples)),
                torch.tensor(rng.uniform(0.1, 2, size=n_samples)),
                torch.tensor(tangents) if n_tangents else None,
            ),
        )

    return make


def automatic(architecture, flat, tangent_weight=0.0, generator=None, **kwargs):
    """The gradient by autograd."""
    function = partial(classifier_objective, generator=generator)
    return AutogradGradient(architecture, flat, [tangent_weight], function, **kwargs)


def columns(batch, rows=slice(None)):
    """The columns of a batch, or of some of its rows."""
    values = batch.x, batch.target, batch.weights, batch.tangents
    return [None if value is None else value[rows] for value in values]


def output(architecture, parameters, x):
    """The class probabilities, written out; of the engine's, only s(a) is used."""
    value = ACTIVATIONS[architecture.activation].value
    weights, biases, (last_weight,), (last_bias,) = parameters
    for weight, bias in zip(weights, biases, strict=True):
        x = value(x @ weight + bias)
    exponentials = (x @ last_weight + last_bias).exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


def materialised_penalty(architecture, parameters, batch):
    """Σ_u ‖∂o/∂x · u‖² with the Jacobian of each sample, by autograd."""

    def jacobian(x):
        return torch.autograd.functional.jacobian(
            lambda x: output(architecture, parameters, x[None])[0], x, create_graph=True
        )

    jacobians = torch.stack([jacobian(x) for x in batch.x])
    return (jacobians @ batch.tangents.mT).square().sum(dim=(1, 2))


# The network


@all_depths
def test_flat_vector_holds_weights_first(sizes, make_batch):
    architecture, flat, _ = make_batch(sizes)
    parameters = architecture.view(flat)
    weights = parameters.encoder_weights + parameters.decoder_weights
    biases = parameters.encoder_biases + parameters.decoder_biases
    assert [tuple(w.shape) for w in weights] == architecture.weight_shapes()
    assert [len(b) for b in biases] == list(sizes[1:])
    assert sum(w.numel() for w in weights) == architecture.n_weights()
    in_order = torch.cat([block.reshape(-1) for block in weights + biases])
    assert torch.equal(in_order, flat)
    assert torch.equal(architecture.flatten(parameters), flat)


@all_activations
@all_depths
def test_probabilities_and_logits(sizes, activation, make_batch):
    architecture, flat, batch = make_batch(sizes, activation)
    parameters = architecture.view(flat)
    expected = output(architecture, parameters, batch.x)
    probabilities = finetuning.probabilities(architecture, parameters, batch.x)
    torch.testing.assert_close(probabilities, expected)
    logits = finetuning.logits(architecture, parameters, batch.x)
    torch.testing.assert_close(torch.softmax(logits, dim=1), expected)
    logarithms = finetuning.log_probabilities(architecture, parameters, batch.x)
    torch.testing.assert_close(logarithms, expected.log())


# The objective and its gradient


@all_activations
@all_depths
def test_terms_are_those_of_the_formulas(sizes, activation, make_batch):
    architecture, flat, batch = make_batch(sizes, activation)
    parameters = architecture.view(flat)
    cross_entropy, tangent = classifier_objective(
        architecture,
        parameters,
        batch.x,
        batch.target,
        batch.tangents,
        make_generator(0),
    )
    expected = -output(architecture, parameters, batch.x).log()
    torch.testing.assert_close(
        cross_entropy, expected[range(7), batch.target], rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(
        tangent,
        materialised_penalty(architecture, parameters, batch),
        rtol=1e-10,
        atol=1e-12,
    )


@all_activations
@all_depths
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_closed_form_is_autograd(sizes, activation, alpha, make_batch):
    architecture, flat, batch = make_batch(sizes, activation, n_tangents=0)
    settings = {"batch_size": 10, "dtype": torch.float64, "alpha": alpha}
    gradients = [
        kind(architecture, flat, **settings)
        for kind in (CrossEntropyGradient, automatic)
    ]
    for n_samples in (7, 3):
        part = columns(batch, slice(n_samples))
        closed, expected = (gradient(*part) for gradient in gradients)
        torch.testing.assert_close(closed, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            *(gradient.gradient for gradient in gradients), rtol=1e-11, atol=1e-13
        )


@all_activations
@pytest.mark.parametrize("tangent_weight", [0.0, 2.0])
def test_gradient_of_the_written_out_objective(activation, tangent_weight, make_batch):
    architecture, flat, batch = make_batch((6, 5, 4, 3), activation)
    gradient = automatic(
        architecture,
        flat,
        tangent_weight=tangent_weight,
        generator=make_generator(0),
        alpha=0.1,
        batch_size=7,
        dtype=torch.float64,
    )
    terms = gradient(*columns(batch))
    leaf = flat.clone().requires_grad_()
    parameters = architecture.view(leaf)
    losses = -output(architecture, parameters, batch.x).log()
    losses = losses[range(7), batch.target]
    tangent = materialised_penalty(architecture, parameters, batch)
    weights = batch.weights
    data = (weights * (losses + tangent_weight * tangent)).mean()
    decay = 0.1 * leaf[: architecture.n_weights()].square().sum()
    (expected,) = torch.autograd.grad(data + decay, leaf)
    torch.testing.assert_close(gradient.gradient, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient.total(terms) / 7, data.detach())
    torch.testing.assert_close(gradient.weight_decay(), decay.detach())


# The tangent penalty and its estimate


@all_activations
@pytest.mark.parametrize("sizes", [(6, 4, 5), (6, 5, 7, 9)], ids=str)
def test_penalty_along_all_classes_is_exact(sizes, activation, make_batch):
    architecture, flat, batch = make_batch(sizes, activation)
    parameters = architecture.view(flat)
    penalty = finetuning.tangent_penalty(
        architecture,
        parameters,
        batch.tangents,
        torch.eye(sizes[-1], dtype=flat.dtype).expand(7, -1, -1),
        encode(architecture, parameters, batch.x),
        output(architecture, parameters, batch.x),
    )
    expected = materialised_penalty(architecture, parameters, batch)
    torch.testing.assert_close(penalty, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 10])
def test_probes_are_those_of_the_definition(n_classes, rng):
    generator = make_generator(0)
    logits = torch.tensor(rng.normal(size=n_classes))
    o = torch.softmax(logits, dim=0)
    probes = finetuning.draw_class_probes(o.expand(5000, -1), generator)
    assert probes.shape[1] == min(n_classes - 1, 2)
    first = -o
    first[o.argmax()] += 1
    torch.testing.assert_close(
        probes[:, 0], (first / first.norm()).expand_as(probes[:, 0])
    )
    torch.testing.assert_close(
        probes.sum(dim=2), torch.zeros_like(probes[:, :, 0]), rtol=0, atol=1e-10
    )
    squares = probes.mT @ probes
    identity = torch.eye(n_classes, dtype=o.dtype) - 1 / n_classes
    if n_classes <= 3:
        torch.testing.assert_close(
            squares, identity.expand_as(squares), rtol=0, atol=1e-8
        )
    else:
        assert (probes[:, 0] * probes[:, 1]).sum(dim=1).abs().max() < 1e-10
        assert squares.std(dim=0).max() > 0.1
        error = squares.std(dim=0) / math.sqrt(len(squares))
        assert ((squares.mean(dim=0) - identity).abs() < 5 * error + 1e-10).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_estimates_are_unbiased(scale, make_batch):
    # Of the penalty and of its gradient, which autograd computes of all classes.
    architecture, flat, batch = make_batch((6, 4, 5), n_samples=1)
    architecture.view(flat).decoder_weights[0].mul_(scale)
    n_draws = 5000
    x, target, _, tangents = columns(batch)
    x, target, tangents = (
        t.expand(n_draws, *t.shape[1:]) for t in (x, target, tangents)
    )
    leaf = flat.clone().requires_grad_()
    parameters = architecture.view(leaf)
    penalty = materialised_penalty(architecture, parameters, batch)[0]
    (expected,) = torch.autograd.grad(penalty, leaf)
    estimates = classifier_objective(
        architecture, parameters, x, target, tangents, make_generator(0)
    ).tangent
    assert estimates.std() > 1e-3 * penalty
    error = estimates.std() / math.sqrt(n_draws)
    assert (estimates.mean() - penalty).abs() < 4 * error
    (gradient,) = torch.autograd.grad(estimates.mean(), leaf)
    assert (gradient - expected).norm() < 0.04 * expected.norm()


def test_little_is_left_to_chance_where_classes_are_told_apart(make_batch):
    # Random signs along all classes, as in Hutchinson's estimate, are far off.
    architecture, flat, batch = make_batch((6, 8, 10), n_samples=500)
    parameters = architecture.view(flat)
    parameters.decoder_weights[0].mul_(5)
    o = output(architecture, parameters, batch.x)
    encoding = encode(architecture, parameters, batch.x)

    def mean_penalty(probes):
        return finetuning.tangent_penalty(
            architecture, parameters, batch.tangents, probes, encoding, o
        ).mean()

    exact = mean_penalty(torch.eye(10, dtype=o.dtype).expand(500, -1, -1))
    generator = make_generator(0)
    ours, signs = (
        torch.stack([mean_penalty(draw()) / exact - 1 for _ in range(200)])
        for draw in (
            lambda: finetuning.draw_class_probes(o, generator),
            lambda: 2.0 * torch.randint(0, 2, (500, 1, 10), generator=generator) - 1,
        )
    )
    assert ours.square().mean().sqrt() < 0.05
    assert ours.square().mean().sqrt() < 0.25 * signs.square().mean().sqrt()


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_saturated_probabilities_have_no_penalty(n_classes, make_batch):
    architecture, flat, batch = make_batch((6, 4, n_classes))
    architecture.view(flat).decoder_biases[0][0] = 1e4
    o = finetuning.probabilities(architecture, architecture.view(flat), batch.x)
    assert (o[:, 0] == 1).all()
    assert finetuning.draw_class_probes(o, make_generator(0)).isfinite().all()
    gradient = automatic(
        architecture,
        flat,
        tangent_weight=1.0,
        generator=make_generator(0),
        batch_size=7,
        dtype=torch.float64,
    )
    batch = replace(batch, target=torch.zeros_like(batch.target))
    assert gradient(*columns(batch)).tangent == 0
    assert not gradient.gradient.any()


def test_tangent_penalty_costs_no_jacobian(make_batch):
    # No intermediate result has a row for each class or tangent and each feature.
    architecture, flat, batch = make_batch((50, 40, 30), n_tangents=20)
    sizes = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not result._is_view():
                sizes.append(result.numel())
            return result

    parameters = architecture.view(flat)
    encoding = encode(architecture, parameters, batch.x)
    o = output(architecture, parameters, batch.x)
    probes = finetuning.draw_class_probes(o, make_generator(0))
    with Recorder():
        finetuning.tangent_penalty(
            architecture, parameters, batch.tangents, probes, encoding, o
        )
    assert max(sizes) == 7 * 2 * 50


@pytest.mark.parametrize("kind", [CrossEntropyGradient, automatic])
def test_bfloat16_keeps_losses_and_weights_in_float32(kind, make_batch):
    # In a network of small integers bfloat16 is exact, but for the softmax.
    architecture, flat, batch = make_batch((6, 4, 3), "identity", n_tangents=0)
    flat = flat.round().float()
    x, weights = batch.x.round(), batch.weights.float()
    z = finetuning.logits(architecture, architecture.view(flat.double()), x)
    assert z.abs().max() < 256
    losses = -torch.log_softmax(z, 1)[range(7), batch.target]
    gradient = kind(architecture, flat, batch_size=7, dtype=torch.bfloat16)
    x = x.bfloat16()
    terms = gradient(x, batch.target, weights)
    torch.testing.assert_close(
        terms[0].item(), (weights * losses).sum().item(), rtol=1e-5, atol=0
    )


# Batches


@pytest.mark.parametrize("dtype", sorted(set(PRECISIONS.values()), key=str))
@pytest.mark.parametrize("with_tangents", [False, True])
@pytest.mark.parametrize("source", ["memory", "file", "rows of a file"])
def test_parts_of_batches_stay_together(
    source, dtype, with_tangents, tmp_path, monkeypatch
):
    n_samples = 23
    numbers = np.arange(n_samples)
    X = np.repeat(numbers[:, None], 5, axis=1).astype(np.float32)
    if source != "memory":
        # Windows of three runs of two rows.
        monkeypatch.setattr(rows_module, "_WINDOW_BYTES", 6 * 28)
        monkeypatch.setattr(batches_module, "_RUN_BYTES", 2 * 28)
        between = 1 if source == "file" else 3
        np.save(tmp_path / "X.npy", np.repeat(X, between, axis=0))
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
        X = as_rows(X)
        if between > 1:
            X = X.take(between * numbers)
        assert X.out_of_core
    batches = ShuffledBatches(
        X,
        numbers,
        (numbers / 2 + 2**-10).astype(np.float32),
        np.tile(numbers[:, None, None], (1, 2, 5)) if with_tangents else None,
        batch_size=8,
        dtype=dtype,
        device=CPU,
        generator=make_generator(0),
    )
    assert batches.n_samples == n_samples
    epochs = []
    for _ in range(2):
        seen = []
        for batch in batches:
            assert len(batch) == len(batch.x) == len(batch.target)
            assert batch.x.dtype == dtype
            assert (batch.x == batch.target[:, None]).all()
            assert (batch.weights == batch.target / 2 + 2**-10).all()
            assert (batch.tangents is not None) == with_tangents
            if with_tangents:
                assert batch.tangents.shape == (len(batch), 2, 5)
                assert (batch.tangents == batch.target[:, None, None]).all()
            seen += batch.target.tolist()
        assert sorted(seen) == numbers.tolist()
        epochs.append(seen)
    assert epochs[0] != epochs[1]


# Training


@pytest.fixture
def make_tuner(rng):
    X = rng.normal(size=(50, 6))
    coefs = [rng.normal(size=(6, 4))]
    intercepts = [rng.normal(size=4)]
    tangents = rng.normal(size=(50, 2, 6))

    def make_labels(n_classes):
        return (X[:, : n_classes - 1] > 0).sum(axis=1)

    def make(with_tangents=False, n_classes=3, **kwargs):
        defaults = {
            "weights": np.ones(50),
            "tangents": tangents if with_tangents else None,
            "alpha": 0.0,
            "learning_rate": 0.01,
            "batch_size": 16,
            "precision": "float64",
            "device": CPU,
            "seed": 0,
        }
        architecture = ClassifierArchitecture((6, 4, n_classes))
        return FineTuner(
            architecture,
            X,
            make_labels(n_classes),
            coefs,
            intercepts,
            **defaults | kwargs,
        )

    make.data = X, make_labels(3)
    make.tangents = tangents
    make.encoder = coefs, intercepts
    return make


def run(tuner, n_epochs):
    return [tuner.epoch() for _ in range(n_epochs)]


def test_it_starts_with_the_encoder_and_equal_probabilities(make_tuner):
    tuner = make_tuner()
    arrays = tuner.arrays()
    for actual, expected in zip(arrays, [*make_tuner.encoder], strict=False):
        np.testing.assert_array_equal(actual, expected)
    assert not arrays.decoder_weights[0].any()
    assert not arrays.decoder_biases[0].any()
    X, labels = make_tuner.data
    assert tuner.mean_objective((X, labels, np.ones(50))) == pytest.approx(np.log(3))


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("with_tangents", [False, True])
def test_objective_decreases(precision, optimizer, with_tangents, make_tuner):
    tuner = make_tuner(
        with_tangents,
        tangent_weight=0.1,
        precision=precision,
        optimizer=optimizer,
        learning_rate=0.05,
        alpha=1e-5,
    )
    reports = run(tuner, 60)
    assert reports[-1].objective < 0.8 * reports[0].objective
    assert (reports[-1].terms.get("tangent", 0) > 0) == with_tangents
    values = [*reports[0].terms.values(), reports[0].objective]
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("is_fast", [True, False])
def test_the_precision_of_the_optimizer(
    is_fast, precision, make_tuner, muon_dtypes, monkeypatch
):
    monkeypatch.setattr(optimizer, "has_fast_bfloat16", lambda device: is_fast)
    run(make_tuner(precision=precision, optimizer="muon"), 1)
    is_coarse = is_fast and precision == "float32"
    assert muon_dtypes == {torch.bfloat16 if is_coarse else PRECISIONS[precision]}


def test_reports_are_means_over_the_samples(make_tuner, rng):
    weights = rng.uniform(0, 2, size=50)
    tuner = make_tuner(True, tangent_weight=0.5, alpha=0.1, weights=weights)
    run(tuner, 5)
    tuner.scale_learning_rate(0)
    first, second = run(tuner, 2)
    assert first.terms == pytest.approx(second.terms, rel=1e-12)
    X, labels = make_tuner.data
    expected = tuner.mean_objective((X, labels, weights))
    assert first.terms["cross_entropy"] == pytest.approx(expected, rel=1e-12)
    decay = 0.1 * sum(
        (weight**2).sum()
        for group in (tuner.arrays().encoder_weights, tuner.arrays().decoder_weights)
        for weight in group
    )
    assert first.objective == pytest.approx(
        first.terms["cross_entropy"] + 0.5 * first.terms["tangent"] + decay, rel=1e-12
    )


def test_tangent_penalty_lowers_the_sensitivity(make_tuner):
    free, held = (run(make_tuner(True, tangent_weight=w), 100)[-1] for w in (0.0, 1.0))
    assert held.terms["tangent"] < 0.5 * free.terms["tangent"]
    assert held.terms["cross_entropy"] > free.terms["cross_entropy"]


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("with_tangents", [False, True])
def test_corruption_is_of_the_rows_alone(name, with_tangents, make_tuner, rng):
    tuner = make_tuner(
        with_tangents,
        tangent_weight=0.5,
        corruption=name,
        corruption_level=0.4,
        batch_size=50,
        learning_rate=0.0,
        seed=3,
    )
    flat = tuner.gradient.flat
    flat.add_(torch.tensor(rng.normal(size=len(flat))))  # the softmax layer was zero

    data = *make_tuner.data, np.ones(50)
    batches = ShuffledBatches(
        *data,
        make_tuner.tangents if with_tangents else None,
        batch_size=50,
        dtype=torch.float64,
        device=CPU,
        generator=make_generator(3),
    )
    generator = make_generator(4)
    for _ in range(2):
        report = tuner.epoch()
        (batch,) = batches
        x = CORRUPTIONS[name](batch.x, 0.4, torch.empty_like(batch.x), generator)
        leaf = flat.clone().requires_grad_()
        parameters = tuner.architecture.view(leaf)
        o = output(tuner.architecture, parameters, x)
        cross_entropy = expected = -o[range(50), batch.target].log().mean()
        if with_tangents:
            batch = replace(batch, x=x)
            penalties = materialised_penalty(tuner.architecture, parameters, batch)
            expected = cross_entropy + 0.5 * penalties.mean()
        assert report.terms["cross_entropy"] == pytest.approx(
            cross_entropy.item(), rel=1e-12
        )
        assert report.objective == pytest.approx(expected.item(), rel=1e-12)
        (expected,) = torch.autograd.grad(expected, leaf)
        torch.testing.assert_close(
            tuner.gradient.gradient, expected, rtol=1e-10, atol=1e-14
        )
    # Held-out rows are as they are.
    plain = make_tuner()
    plain.gradient.flat.copy_(flat)
    assert tuner.mean_objective(data) == plain.mean_objective(data)


@pytest.mark.parametrize("corruption", [None, *sorted(CORRUPTIONS)])
@pytest.mark.parametrize("with_tangents", [False, True])
def test_seed_is_all_that_is_random(with_tangents, corruption, make_tuner):
    first, second, other = (
        make_tuner(
            with_tangents,
            n_classes=5,
            tangent_weight=0.1,
            seed=seed,
            corruption=corruption,
            corruption_level=0.1,
        )
        for seed in (1, 1, 2)
    )
    assert run(first, 3) == run(second, 3)
    assert torch.equal(first.snapshot(), second.snapshot())
    run(other, 3)
    assert not torch.equal(first.snapshot(), other.snapshot())


@pytest.mark.parametrize("name", ["alpha", "tangent_weight"])
def test_enormous_weights_are_refused(name, make_tuner):
    with pytest.raises(FloatingPointError, match=name):
        make_tuner(precision="float32", **{name: 1e38})


def test_infinite_losses_are_found(make_tuner):
    tuner = make_tuner()
    tuner.gradient.flat.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="held-out"):
        tuner.mean_objective((*make_tuner.data, np.ones(50)))
    with pytest.raises(FloatingPointError, match="objective"):
        run(tuner, 1)
