import math
import pickle
import random

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from torch.utils._python_dispatch import TorchDispatchMode

from skcae.engine import optimizer
from skcae.engine import rows as rows_module
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.device import PRECISIONS
from skcae.engine.distributed import ALONE
from skcae.engine.losses import LOSSES
from skcae.engine.network import Architecture, Parameters
from skcae.engine.training import Trainer

CPU = torch.device("cpu")

tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
all_precisions = pytest.mark.parametrize("precision", sorted(PRECISIONS))


@pytest.fixture
def X(rng):
    """Fifty rows in [0, 1] with three strong directions: batches of 16, 16, 16, 2."""
    directions = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 6))
    return expit(directions + 0.1 * rng.normal(size=(50, 6)))


ONE_LAYER = Architecture((6, 4))


def make_trainer(X, arrays=None, architecture=ONE_LAYER, **kwargs):
    defaults = {
        "loss": "squared_error",
        "lam": 0.1,
        "learning_rate": 0.01,
        "batch_size": 16,
        "precision": "float64",
        "device": CPU,
        "seed": 0,
    }
    return Trainer(architecture, X, arrays, **{**defaults, **kwargs})


def run(trainer, n_epochs):
    return [trainer.epoch() for _ in range(n_epochs)]


def flatten(arrays):
    return np.concatenate([block.ravel() for group in arrays for block in group])


def copy(arrays):
    return Parameters(*([block.copy() for block in group] for group in arrays))


def sigmoid_terms(arrays, X, target=None):
    """Mean reconstruction error and contraction, by the formulas, in float64."""
    (weight,), (bias,), (decoder_weight,), (decoder_bias,) = arrays
    h = expit(X @ weight + bias)
    residual = h @ decoder_weight + decoder_bias - (X if target is None else target)
    contraction = ((h * (1 - h)) ** 2 * (weight**2).sum(axis=0)).sum(axis=1)
    return (residual**2).sum(axis=1).mean(), contraction.mean()


# What the loop does


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(
    "loss, output",
    [
        (loss, output)
        for loss in sorted(LOSSES)
        for output in LOSSES[loss].output_activations
        if output in ("identity", "sigmoid")  # those that end a decoder
    ],
)
@tied_or_not
def test_objective_decreases(activation, loss, output, tied, X):
    architecture = Architecture((6, 3), activation, output, tied)
    trainer = make_trainer(X, architecture=architecture, loss=loss, lam=0.03)
    # The initial parameters can be so good that steps of this size can't improve them.
    trainer.gradient.flat.mul_(0.7)
    before = trainer.mean_objective(X)
    reports = run(trainer, 25)
    after = trainer.mean_objective(X)
    assert after < before
    assert reports[-1].objective < reports[0].objective
    # With frozen parameters, the report is the objective that training minimised.
    trainer.scale_learning_rate(0)
    (report,) = run(trainer, 1)
    assert report.objective == pytest.approx(after, rel=1e-10)


@all_precisions
def test_objective_decreases_in_every_precision(precision, X):
    trainer = make_trainer(X, precision=precision)
    before = trainer.mean_objective(X)
    run(trainer, 25)
    assert trainer.mean_objective(X) < 0.9 * before
    dtype = np.float64 if precision == "float64" else np.float32
    assert flatten(trainer.arrays()).dtype == dtype


@all_precisions
@pytest.mark.parametrize("is_fast", [True, False])
def test_the_precision_of_the_optimizer(
    is_fast, precision, X, muon_dtypes, monkeypatch
):
    monkeypatch.setattr(optimizer, "has_fast_bfloat16", lambda device: is_fast)
    run(make_trainer(X, precision=precision, optimizer="muon"), 1)
    is_coarse = is_fast and precision == "float32"
    assert muon_dtypes == {torch.bfloat16 if is_coarse else PRECISIONS[precision]}


def test_all_processes_make_steps_of_one_precision(monkeypatch):
    class Group:
        def gather(self, value):
            return [value, False]

    monkeypatch.setattr(optimizer, "has_fast_bfloat16", lambda device: True)
    arguments = torch.float32, torch.device("cpu")
    assert optimizer.dtype_of_steps(*arguments, ALONE) == torch.bfloat16
    assert optimizer.dtype_of_steps(*arguments, Group()) == torch.float32


@pytest.mark.parametrize("lam", [0, 0.3])
@pytest.mark.parametrize("batch_size", [1, 16, 50, 1000])
def test_reports_are_means_over_the_samples(lam, batch_size, X):
    # With frozen parameters the report is the objective of the data. A mean of the
    # batches' means would weigh the last, smaller batch too much.
    trainer = make_trainer(X, lam=lam, learning_rate=0.0, batch_size=batch_size)
    reconstruction, contraction = sigmoid_terms(trainer.arrays(), X)
    for report in run(trainer, 2):
        assert report.terms["reconstruction"] == pytest.approx(
            reconstruction, rel=1e-12
        )
        assert report.terms["contraction"] == pytest.approx(contraction, rel=1e-12)
        assert report.objective == pytest.approx(
            reconstruction + lam * contraction, rel=1e-12
        )


def test_reports_are_plain_floats(X):
    (report,) = run(make_trainer(X, precision="float32"), 1)
    values = [*report.terms.values(), report.objective]
    assert [type(value) for value in values] == [float] * 3


def test_mean_objective_is_that_of_the_formulas(X, monkeypatch):
    trainer = make_trainer(X, lam=0.3)
    reconstruction, contraction = sigmoid_terms(trainer.arrays(), X[:23])
    expected = reconstruction + 0.3 * contraction
    assert trainer.mean_objective(X[:23]) == pytest.approx(expected, rel=1e-12)
    # In blocks of five rows, the last one smaller.
    monkeypatch.setattr(rows_module, "_BLOCK_ENTRIES", 30)
    assert trainer.mean_objective(X[:23]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "corruption, level", [("gaussian", 0.5), ("masking", 0.25)], ids=str
)
def test_mean_objective_is_that_of_corrupted_rows(corruption, level, X, rng):
    trainer = make_trainer(X, corruption=corruption, corruption_level=level)
    many = np.tile(X, (2000, 1))
    before = trainer.generator.get_state()
    computed = trainer.mean_objective(many)
    assert trainer.mean_objective(many) == computed
    assert torch.equal(trainer.generator.get_state(), before)
    if corruption == "gaussian":
        corrupted = many + level * rng.normal(size=many.shape)
    else:
        corrupted = many * (rng.uniform(size=many.shape) >= level)
    reconstruction, contraction = sigmoid_terms(trainer.arrays(), corrupted, many)
    expected = reconstruction + 0.1 * contraction
    assert computed == pytest.approx(expected, rel=0.01)
    assert computed > 1.5 * make_trainer(X).mean_objective(X)


@tied_or_not
@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_explained_is_the_share_of_the_variance(precision, tied, X):
    architecture = Architecture((6, 4, 3), tied=tied)
    trainer = make_trainer(X, architecture=architecture, precision=precision)
    run(trainer, 3)
    arrays = trainer.arrays()
    h = X
    for weight, bias in zip(*arrays[:2], strict=True):
        h = expit(h @ weight + bias)
    for weight, bias in zip(*arrays[2:], strict=True):
        y = h @ weight + bias
        h = expit(y)
    expected = r2_score(X, y, multioutput="variance_weighted")
    # The rows are rounded as those of the batches are.
    tolerance = 1e-12 if precision == "float64" else 2e-2
    assert trainer.explained(arrays, X)[0] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("value", [0, 0.3, 1])
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_of_constant_data_nothing_is_to_be_explained(loss, precision, value):
    architecture = Architecture((500, 4), output_activation="sigmoid")
    X = np.full((30, 500), value)
    trainer = make_trainer(X, architecture=architecture, loss=loss, precision=precision)
    assert trainer.explained(trainer.arrays(), X)[0] is None


def test_explained_of_rows_whose_own_entropies_differ_most():
    # By other rows than those of the model's loss it would be below 0.
    rng = np.random.default_rng(28)
    brightness = 0.02 * rng.normal(size=(20_000, 1))
    X = 0.2 + brightness + 0.002 * rng.normal(size=(20_000, 20))
    architecture = Architecture((20, 4), output_activation="sigmoid")
    trainer = make_trainer(
        X, architecture=architecture, loss="cross_entropy", lam=0, batch_size=512
    )
    run(trainer, 5)
    assert 0.9 < trainer.explained(trainer.arrays(), X)[0] < 1


@tied_or_not
def test_first_step_is_adams(tied, X):
    # Adam's first step is the learning rate times the gradient's sign, where that is
    # not tiny.
    architecture = Architecture((6, 4), tied=tied)
    for factor in [1, 0.25]:
        trainer = make_trainer(
            X, architecture=architecture, batch_size=50, optimizer="adam"
        )
        trainer.scale_learning_rate(factor)
        before = trainer.snapshot()
        run(trainer, 1)
        step = trainer.snapshot() - before
        gradient = trainer.gradient.gradient
        # Steps are relative: to the weights at the start, by the factors of free
        # encoders and decoders, and to the deviation of the data.
        units = []
        for block, shape in zip(
            before.split([math.prod(shape) for shape in architecture.shapes()]),
            architecture.shapes(),
            strict=True,
        ):
            unit = block.square().mean().sqrt() if len(shape) == 2 else 3.5
            if len(shape) == 2 and not tied:
                unit = unit * (0.5 if shape == (6, 4) else 2)
            if shape == (6,):
                unit = 0.5 * np.sqrt(X.var(axis=0).mean())
            units.append(torch.full_like(block, float(unit)))
        signs = gradient / (gradient.abs() + 1e-8)
        expected = -factor * 0.01 * signs * torch.cat(units)
        # The step of the encoder's bias is that of b + μ W.
        parameters = architecture.view(step)
        mean = torch.tensor(X.mean(axis=0))
        parameters.encoder_biases[0].add_(mean @ parameters.encoder_weights[0])
        torch.testing.assert_close(step, expected, rtol=1e-6, atol=1e-15)


def test_learning_rate_is_scaled_from_the_initial_one(X):
    trainer = make_trainer(X)
    before = trainer.snapshot()
    trainer.scale_learning_rate(0.5)
    trainer.scale_learning_rate(0)
    run(trainer, 1)
    assert torch.equal(trainer.snapshot(), before)
    trainer.scale_learning_rate(1)
    run(trainer, 1)
    assert (trainer.snapshot() - before).abs().max() > 0.005


@pytest.mark.parametrize("source", ["u1", "f4"])
def test_integers_and_floats_train_alike(source, rng):
    values = rng.integers(0, 10, size=(40, 6))
    expected = make_trainer(values.astype("f8"), precision="float32")
    trainer = make_trainer(values.astype(source), precision="float32")
    assert run(trainer, 3) == run(expected, 3)
    assert torch.equal(trainer.snapshot(), expected.snapshot())


@pytest.mark.parametrize("source", ["u1", "f4", "f8"])
@pytest.mark.parametrize("writeable", [True, False])
def test_data_are_not_modified(source, writeable, rng):
    values = rng.integers(0, 10, size=(40, 6)).astype(source)
    before = values.copy()
    values.flags.writeable = writeable
    trainer = make_trainer(values)
    run(trainer, 2)
    trainer.mean_objective(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    "architecture", [Architecture((6, 20)), Architecture((6, 1), tied=True)]
)
@pytest.mark.parametrize("n_samples", [1, 2, 17])
def test_few_rows_and_any_number_of_units(architecture, n_samples, X):
    trainer = make_trainer(X[:n_samples], architecture=architecture)
    for report in run(trainer, 3):
        assert np.isfinite(report.objective)


# Parameters in and out


@tied_or_not
@all_precisions
def test_training_starts_from_given_arrays_and_leaves_them(tied, precision, X):
    architecture = Architecture((6, 4), tied=tied)
    source = make_trainer(X, architecture=architecture)
    run(source, 2)
    arrays = source.arrays()
    before = copy(arrays)
    trainer = make_trainer(X, arrays, architecture, precision=precision, seed=1)
    tolerance = 1e-12 if precision == "float64" else 1e-5
    np.testing.assert_allclose(
        flatten(trainer.arrays()), flatten(before), rtol=tolerance
    )
    run(trainer, 2)
    np.testing.assert_array_equal(flatten(arrays), flatten(before))
    assert abs(flatten(trainer.arrays()) - flatten(before)).max() > 1e-3


def test_read_only_arrays_are_accepted(X):
    # As they come from joblib, which maps large arrays into memory.
    arrays = make_trainer(X).arrays()
    for group in arrays:
        for block in group:
            block.flags.writeable = False
    run(make_trainer(X, arrays), 1)


@tied_or_not
def test_snapshots_and_arrays_are_copies(tied, X):
    trainer = make_trainer(X, architecture=Architecture((6, 4), tied=tied))
    snapshot, arrays = trainer.snapshot(), trainer.arrays()
    before = snapshot.clone(), copy(arrays)
    trainer.epoch()
    assert torch.equal(snapshot, before[0])
    np.testing.assert_array_equal(flatten(arrays), flatten(before[1]))
    # The parameters of an earlier epoch, as early stopping wants them.
    restored = flatten(trainer.arrays(snapshot))
    np.testing.assert_array_equal(restored, flatten(arrays))
    assert abs(flatten(trainer.arrays()) - restored).max() > 1e-3
    (weight,), _, (decoder_weight,), _ = trainer.arrays()
    assert weight.shape == (6, 4)
    assert np.array_equal(weight.T, decoder_weight) == tied


@tied_or_not
def test_a_snapshot_of_arrays_is_theirs(tied, X):
    trainer = make_trainer(X, architecture=Architecture((6, 4), tied=tied))
    arrays = trainer.arrays()
    run(trainer, 1)
    restored = flatten(trainer.arrays(trainer.snapshot(arrays)))
    np.testing.assert_array_equal(restored, flatten(arrays))


def test_arrays_own_their_memory(X):
    trainer = make_trainer(X, architecture=Architecture((6, 4), tied=True))
    arrays = trainer.arrays()
    for group in arrays:
        assert all(block.flags.owndata and block.flags.c_contiguous for block in group)


@pytest.mark.parametrize("n_samples", [3, 50, 999, 1000, 5001])
def test_moments_of_the_rows(n_samples, rng):
    rows = 1 + rng.normal(size=(n_samples, 6))
    trainer = make_trainer(rows)
    n_used = len(rows[:: n_samples // 1000 + 1])
    assert min(n_samples, 500) <= n_used <= 1000
    # Within four standard errors of what all rows have.
    tolerance = 0 if n_used == n_samples else 4 * (12 / n_used) ** 0.5
    variance, mean_square = rows.var(axis=0).sum(), (rows**2).sum(axis=1).mean()
    assert trainer.variance == pytest.approx(variance, rel=1e-12, abs=tolerance)
    assert trainer.mean_square == pytest.approx(
        mean_square, rel=1e-12, abs=2 * tolerance
    )


# Reproducibility


@all_precisions
def test_same_seed_gives_the_same_bits(precision, X):
    results = []
    for seed, global_seed in [(0, 0), (0, 1), (1, 0)]:
        torch.manual_seed(global_seed)
        trainer = make_trainer(X, precision=precision, seed=np.int64(seed))
        results.append((run(trainer, 3), flatten(trainer.arrays())))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[0][0] != results[2][0]


@all_precisions
@tied_or_not
@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_resumed_training_is_the_uninterrupted_one(precision, tied, n_before, X):
    architecture = Architecture((6, 4), tied=tied)
    kwargs = {"architecture": architecture, "precision": precision}
    whole = make_trainer(X, **kwargs)
    reports = run(whole, 5)

    first = make_trainer(X, **kwargs)
    assert run(first, n_before) == reports[:n_before]
    # Pickled, as in an estimator.
    state, arrays = pickle.loads(pickle.dumps((first.state(), first.arrays())))
    run(first, 1)
    resumed = make_trainer(X, arrays, seed=99, **kwargs)
    resumed.restore(state)
    assert run(resumed, 5 - n_before) == reports[n_before:]
    assert torch.equal(resumed.snapshot(), whole.snapshot())


def test_state_is_arrays_and_stays_as_it_is(X):
    def entries(state):
        optimizer = state["optimizer"].values()
        return [state["generator"], *optimizer]

    trainer = make_trainer(X)
    run(trainer, 1)
    state = trainer.state()
    assert all(isinstance(entry, np.ndarray) for entry in entries(state))
    before = [entry.copy() for entry in entries(state)]
    resumed = make_trainer(X)
    resumed.restore(state)
    run(resumed, 1)
    run(trainer, 1)
    for entry, value in zip(entries(state), before, strict=True):
        np.testing.assert_array_equal(entry, value)


def test_parameters_alone_are_not_the_state(X):
    # The tests above could not fail if the optimiser's memory made no difference.
    whole = make_trainer(X)
    reports = run(whole, 3)
    first = make_trainer(X)
    run(first, 1)
    assert run(make_trainer(X, first.arrays()), 2) != reports[1:]


# Neighbourly behaviour


def train_and_resume(X):
    trainer = make_trainer(X, precision="float32")
    reports = run(trainer, 2)
    resumed = make_trainer(X, trainer.arrays(), precision="float32", seed=1)
    resumed.restore(trainer.state())
    reports += run(resumed, 1)
    objective = resumed.mean_objective(X)
    return reports, objective, flatten(resumed.arrays(resumed.snapshot()))


def test_settings_of_other_code_do_not_matter(X, torch_setting):
    expected = train_and_resume(X)
    with torch_setting():
        result = train_and_resume(X)
    assert result[:2] == expected[:2]
    np.testing.assert_array_equal(result[2], expected[2])


def test_settings_can_change_between_epochs(X):
    expected = run(make_trainer(X), 3)
    trainer = make_trainer(X)
    with torch.inference_mode():
        first = trainer.epoch()
    second = trainer.epoch()
    with torch.enable_grad():
        third = trainer.epoch()
    assert [first, second, third] == expected


def test_settings_of_other_code_are_left_alone(X, torch_setting):
    def settings():
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.empty(0).device,
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
        )

    with torch_setting():
        before = settings()
        trainer = make_trainer(X, precision="float32")
        for _ in range(2):
            trainer.epoch()
            assert settings() == before
        trainer.mean_objective(X)
        assert settings() == before


def test_global_random_numbers_are_left_alone(X):
    numpys = check_random_state(None)
    before = torch.get_rng_state(), numpys.get_state()[1].copy(), random.getstate()
    run(make_trainer(X), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(numpys.get_state()[1], before[1])
    assert random.getstate() == before[2]


class ReadbackCounter(TorchDispatchMode):
    """Counts how often values of tensors are brought to Python."""

    METHODS = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__")

    def __init__(self, monkeypatch):
        super().__init__()
        self.count = 0
        self._inside = False
        for name in self.METHODS:
            monkeypatch.setattr(torch.Tensor, name, self._counting(name))

    def _counting(self, name):
        method = getattr(torch.Tensor, name)

        def wrapper(*args, **kwargs):
            if self._inside:
                return method(*args, **kwargs)
            self.count += 1
            self._inside = True
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False

        return wrapper

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and not self._inside:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", sorted(LOSSES))
@all_precisions
def test_an_epoch_reads_values_back_once(loss, precision, X, monkeypatch):
    # Every read makes the CPU wait until the device has caught up.
    architecture = Architecture((6, 4), output_activation="sigmoid")
    trainer = make_trainer(
        X, architecture=architecture, loss=loss, precision=precision, batch_size=5
    )
    with ReadbackCounter(monkeypatch) as counter:
        run(trainer, 3)
    assert counter.count == 3


@pytest.mark.parametrize("sizes", [(6, 4), (6, 4, 3)], ids=str)
@pytest.mark.parametrize(
    "parameters",
    [
        {"corruption": "gaussian", "corruption_level": 0.1},
        {"corruption": "masking", "corruption_level": 0.1},
        {"gamma": 1.0, "sigma": 0.1},
        {"n_projections": 2, "gamma": 1.0, "sigma": 0.1, "alpha": 0.1},
    ],
    ids=str,
)
def test_an_epoch_of_a_variant_reads_values_back_once(
    parameters, sizes, X, monkeypatch
):
    architecture = Architecture(sizes)
    trainer = make_trainer(X, architecture=architecture, batch_size=5, **parameters)
    with ReadbackCounter(monkeypatch) as counter:
        run(trainer, 3)
    assert counter.count == 3


def test_readbacks_are_counted(monkeypatch):
    tensor = torch.ones(2)
    with ReadbackCounter(monkeypatch) as counter:
        tensor.tolist()
        float(tensor[0])
        bool(tensor[0] > 0)
        tensor[0].item()
        torch.is_nonzero(tensor[0])
    assert counter.count == 5


# Divergence


def test_parameters_that_the_last_step_ruined_raise(X):
    # One step an epoch: the objective was computed before it.
    trainer = make_trainer(X, precision="float32", learning_rate=1e39, batch_size=50)
    with pytest.raises(FloatingPointError):
        run(trainer, 1)


@all_precisions
@pytest.mark.parametrize("factor", [1, 1e20])
def test_huge_data_raise(precision, factor, X):
    # Their squares are too large for the format, or they are themselves.
    scale = factor * (1e200 if precision == "float64" else 1e30)
    with pytest.raises(FloatingPointError):
        run(make_trainer(scale * X, precision=precision), 3)


@all_precisions
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_huge_learning_rate_raises(precision, activation, X):
    architecture = Architecture((6, 4), activation)
    trainer = make_trainer(
        X, architecture=architecture, learning_rate=1e200, precision=precision
    )
    with pytest.raises(FloatingPointError):
        run(trainer, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_are_not_finite_raise(bad, X):
    trainer = make_trainer(X)
    trainer.gradient.flat[-1] = bad
    with pytest.raises(FloatingPointError, match="objective is"):
        run(trainer, 1)
    with pytest.raises(FloatingPointError, match="initial parameters"):
        make_trainer(np.full((5, 6), bad))
