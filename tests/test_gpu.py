"""On a GPU: the same answers, and no waiting for it within an epoch."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from checks import BATCHES_DIFFER
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils.estimator_checks import check_estimator

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine import optimizer, replay, training
from skcae.engine import rows as rows_module
from skcae.engine.corruption import CORRUPTIONS
from skcae.engine.device import make_generator
from skcae.engine.finetuning import (
    ClassifierArchitecture,
    FineTuner,
    draw_class_probes,
)
from skcae.engine.network import Architecture
from skcae.engine.objective import make_gradient
from skcae.engine.optimizer import OPTIMIZERS
from skcae.engine.penalties import contraction, projected_contraction
from skcae.engine.replay import replayed
from skcae.engine.training import Trainer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="there is no CUDA device that CUDA_VISIBLE_DEVICES names",
)

ENDLESS = {"tol": 0, "n_iter_no_change": 10**6}

# What a step draws, if it does.
DRAWS = [
    ((20, 8), {"corruption": "gaussian", "corruption_level": 0.1}),
    ((20, 8), {"corruption": "masking", "corruption_level": 0.1}),
    ((20, 8), {"gamma": 1.0, "sigma": 0.1}),
    ((20, 8, 4), {"n_projections": 2}),
    ((20, 8, 4), {"n_projections": 2, "gamma": 1.0, "sigma": 0.1}),
]
STEPS = [
    ((20, 8), {"alpha": 0.01}),
    ((20, 8), {"precision": "bfloat16"}),
    ((20, 8, 4), {"alpha": 0.01, "n_projections": None}),
    *DRAWS,
]


@pytest.fixture(params=[True, False], ids=["resident", "batch by batch"])
def _placement(request, monkeypatch):
    """Let the rows lie on the device, or come there batch by batch."""
    if not request.param:
        monkeypatch.setattr(rows_module, "belongs_on", lambda device, nbytes: False)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Record at the second call, so that a few epochs do; treat no layer as small."""
    monkeypatch.setattr(replay, "_N_CALLS_BEFORE", 1)
    monkeypatch.setattr(optimizer, "_NARROW_SIZE", 1)


@pytest.fixture(scope="module")
def rows():
    """250 rows of 20 features: three batches of 64 and a smaller one."""
    return np.random.default_rng(0).random((250, 20), dtype=np.float32)


@pytest.fixture
def make_trainer(rows):
    """Return a function that makes a trainer on the GPU."""

    def make_trainer(sizes, optimizer="adam", tied=True, **parameters):
        return Trainer(
            Architecture(sizes, tied=tied),
            rows,
            loss="squared_error",
            lam=0.1,
            learning_rate=1e-3,
            batch_size=64,
            device=torch.device("cuda"),
            seed=0,
            optimizer=optimizer,
            **{"precision": "float32", **parameters},
        )

    return make_trainer


@pytest.fixture
def make_fine_tuner(rows):
    """The same for a fine-tuner."""

    def make_fine_tuner(n_tangents=0, **parameters):
        rng = np.random.default_rng(1)
        tangents = rng.normal(size=(250, n_tangents, 20)).astype(np.float32)
        return FineTuner(
            ClassifierArchitecture((20, 8, 5)),
            rows,
            np.arange(250) % 5,
            [rng.normal(size=(20, 8))],
            [np.zeros(8)],
            weights=np.ones(250),
            tangents=tangents if n_tangents else None,
            tangent_weight=0.1,
            alpha=0.0,
            learning_rate=1e-3,
            batch_size=64,
            precision="float32",
            device=torch.device("cuda"),
            seed=0,
            **parameters,
        )

    return make_fine_tuner


@pytest.mark.usefixtures("_placement")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_hidden": (6, 4), "n_projections": None},
        {"solver": "adam", "tied_weights": False},
        {"batch_size": 16, "alpha": 0.01},
    ],
    ids=str,
)
def test_a_fit_is_that_of_the_cpu(parameters, X, make):
    models = []
    for device in ("cpu", "cuda"):
        model = make(
            device=device, precision="float64", max_iter=5, **ENDLESS | parameters
        )
        with pytest.warns(ConvergenceWarning):
            models.append(model.fit(X))
    cpu, gpu = models
    assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-8)
    assert_allclose(gpu.transform(X), cpu.transform(X), rtol=1e-6, atol=1e-8)
    assert type(gpu.encoder_coefs_[0]) is np.ndarray
    assert_allclose(gpu.set_params(device="cpu").transform(X), cpu.transform(X), 1e-6)


def test_threads_fit_side_by_side(X, make):
    def fitted(solver):
        model = make(device="cuda", corruption="gaussian", solver=solver, max_iter=30)
        return model.set_params(**ENDLESS).fit(X).loss_curve_

    solvers = ["adam", "muon"] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = list(map(fitted, solvers))
        with ThreadPoolExecutor(4) as threads:
            actual = list(threads.map(fitted, solvers))
    assert_allclose(actual, expected, rtol=1e-5)


def test_a_fit_goes_on_where_another_device_stopped(X, make):
    start = make(device="cpu", precision="float64", max_iter=2, warm_start=True)
    start.set_params(**ENDLESS)
    with pytest.warns(ConvergenceWarning):
        start.fit(X)
    models = []
    for device in ("cpu", "cuda"):
        model = deepcopy(start).set_params(device=device, max_iter=3)
        with pytest.warns(ConvergenceWarning):
            models.append(model.fit(X))
    cpu, gpu = models
    assert len(gpu.loss_curve_) > len(start.loss_curve_)
    assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Maximum iterations", "ignore:The reconstruction")
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_scikit_learns_checks(solver):
    settings = {"solver": solver, "max_iter": 5, "device": "cuda"}
    check_estimator(
        ContractiveAutoencoderTransformer(**settings),
        expected_failed_checks=BATCHES_DIFFER,
    )


@pytest.mark.filterwarnings("ignore:Maximum iterations", "ignore:The reconstruction")
def test_scikit_learns_checks_of_the_classifier():
    transformer = ContractiveAutoencoderTransformer(
        4, solver="adam", max_iter=5, device="cuda"
    )
    check_estimator(
        ContractiveAutoencoderClassifier(transformer, device="cuda"),
        expected_failed_checks=BATCHES_DIFFER,
    )


@pytest.mark.parametrize("batch_size", [1000, 16])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_fine_tuning_is_that_of_the_cpu(n_classes, batch_size, X, make):
    pretrained = FrozenEstimator(make(device="cpu", precision="float64").fit(X))
    y = np.digitize(X[:, 0], np.quantile(X[:, 0], np.arange(1, n_classes) / n_classes))
    # With two classes the penalty draws nothing.
    tangents = {"tangent_weight": 0.1, "n_tangents": 2} if n_classes == 2 else {}
    models = []
    for device in ("cpu", "cuda"):
        model = ContractiveAutoencoderClassifier(
            pretrained,
            device=device,
            max_iter=5,
            batch_size=batch_size,
            random_state=0,
            **ENDLESS | tangents,
        )
        with pytest.warns(ConvergenceWarning):
            models.append(model.fit(X, y))
    cpu, gpu = models
    assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-8)
    assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_that_of_the_cpu_from_the_same_draws(name, dtype, rows):
    x = torch.tensor(rows, dtype=dtype)
    results = []
    for device in ("cpu", "cuda"):
        place = x.to(device)
        out = torch.empty_like(place)
        corrupted = CORRUPTIONS[name](place, 0.3, out, make_generator(0))
        assert corrupted.device == place.device
        results.append(corrupted.cpu())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("sizes, parameters", DRAWS[2:], ids=str)
def test_gradients_are_those_of_the_cpu_from_the_same_draws(sizes, parameters, rows):
    architecture = Architecture(sizes)
    results = []
    for device in ("cpu", "cuda"):
        generator = make_generator(0)
        size = (architecture.n_parameters(),)
        flat = torch.randn(size, dtype=torch.float64, generator=generator)
        gradient = make_gradient(
            architecture,
            flat.to(device),
            loss="squared_error",
            lam=0.3,
            batch_size=250,
            dtype=torch.float64,
            generator=generator,
            **parameters,
        )
        gradient(torch.tensor(rows, dtype=torch.float64, device=device))
        results.append(gradient.gradient.cpu())
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_drawn_on_the_gpu_has_its_level(name):
    x = torch.ones(1000, 100, device="cuda")
    out = torch.empty_like(x)
    generator = make_generator(0, x.device)
    first = CORRUPTIONS[name](x, 0.3, out, generator).clone()
    second = CORRUPTIONS[name](x, 0.3, out, generator)
    # 100,000 draws: five standard errors are less than 0.01.
    mean, variance = (1.0, 0.3**2) if name == "gaussian" else (0.7, 0.7 * 0.3)
    assert first.mean().item() == pytest.approx(mean, abs=0.01)
    assert first.var().item() == pytest.approx(variance, abs=0.01)
    pair = torch.stack([first.ravel(), second.ravel()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.02


@pytest.mark.parametrize("n_projections", [1, 3])
def test_projections_drawn_on_the_gpu_are_unbiased(n_projections, rows):
    architecture = Architecture((20, 8, 4))
    generator = make_generator(0, torch.device("cuda"))
    size = (architecture.n_parameters(),)
    flat = torch.randn(size, dtype=torch.float64, device="cuda", generator=generator)
    parameters = architecture.view(flat)
    x = torch.tensor(rows[:5], dtype=torch.float64, device="cuda")
    exact = contraction(architecture, parameters, x)
    many = x.repeat_interleave(20_000, dim=0)
    estimates = projected_contraction(
        architecture, parameters, many, n_projections, generator
    ).view(5, -1)
    error = estimates.std(dim=1) / estimates.shape[1] ** 0.5
    assert ((estimates.mean(dim=1) - exact).abs() < 5 * error).all()
    assert (error > 0).all()


def test_class_probes_drawn_on_the_gpu_are_unbiased():
    generator = make_generator(0, torch.device("cuda"))
    z = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.5], dtype=torch.float64, device="cuda")
    probes = draw_class_probes(z.softmax(0).expand(50_000, 5), generator)
    mean = torch.einsum("npi,npj->ij", probes, probes) / len(probes)
    expected = torch.eye(5, device="cuda", dtype=torch.float64) - 1 / 5
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.02)


def first_epochs(run, numbers=range(4)):
    """Return the reports of some epochs and the parameters after them.

    The learning rate falls from one to the next.
    """
    reports = []
    for number in numbers:
        run.scale_learning_rate(0.5**number)
        report = run.epoch()
        reports.append([*report.terms.values(), report.objective])
    return reports, run.gradient.flat.cpu()


@pytest.mark.usefixtures("_placement")
@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize("sizes, parameters", STEPS, ids=str)
def test_replayed_steps_are_the_same(
    sizes, parameters, name, make_trainer, monkeypatch
):
    replays = first_epochs(make_trainer(sizes, name, **parameters))
    for module in (training, optimizer):
        monkeypatch.setattr(module, "replayed", lambda function, *args: function)
    steps = first_epochs(make_trainer(sizes, name, **parameters))
    assert_allclose(replays[0], steps[0], rtol=1e-5)
    torch.testing.assert_close(replays[1], steps[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"n_tangents": 2}, {"corruption": "masking", "corruption_level": 0.2}],
    ids=str,
)
def test_replayed_fine_tuning_is_the_same(parameters, make_fine_tuner, monkeypatch):
    replays = first_epochs(make_fine_tuner(**parameters))
    monkeypatch.setattr(training, "replayed", lambda function, *args: function)
    steps = first_epochs(make_fine_tuner(**parameters))
    assert_allclose(replays[0], steps[0], rtol=1e-5)
    torch.testing.assert_close(replays[1], steps[1], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_placement")
@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize("sizes, parameters", DRAWS, ids=str)
def test_training_goes_on_with_the_same_draws(sizes, parameters, name, make_trainer):
    whole = first_epochs(make_trainer(sizes, name, **parameters))
    first = make_trainer(sizes, name, **parameters)
    reports, _ = first_epochs(first, range(2))
    second = make_trainer(sizes, name, arrays=first.arrays(), **parameters)
    second.restore(first.state())
    more, flat = first_epochs(second, range(2, 4))
    assert_allclose(reports + more, whole[0], rtol=1e-5)
    torch.testing.assert_close(flat, whole[1], rtol=1e-4, atol=1e-5)


def check_no_waiting(run, generators):
    """Fail if the steps of an epoch wait for the device, replayed or not."""

    device = run.gradient.flat.device

    def step(batch):
        target = batch.x if batch.target is None else batch.target
        x = run._corrupt(batch.x)
        return run.gradient(x, target, batch.weights, batch.tangents)

    for evaluate in (step, replayed(step, device, generators)):
        for sync_debug_mode in ("default", "default", "error"):
            torch.cuda.set_sync_debug_mode(sync_debug_mode)
            try:
                with torch.no_grad():
                    for _ in run.group.steps(evaluate, run.gradient, run.batches):
                        run.optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.usefixtures("_placement")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize("sizes, parameters", STEPS, ids=str)
def test_steps_do_not_wait_for_the_device(sizes, parameters, name, tied, make_trainer):
    trainer = make_trainer(sizes, name, tied, **parameters)
    check_no_waiting(trainer, [trainer._draws])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.usefixtures("_placement")
@pytest.mark.parametrize("n_tangents", [0, 2])
def test_fine_tuning_does_not_wait_for_the_device(n_tangents, make_fine_tuner):
    tuner = make_fine_tuner(n_tangents, corruption="gaussian", corruption_level=0.1)
    check_no_waiting(tuner, tuner._draws)


def test_tensors_stay_on_the_device(X, make):
    model = make(device="cpu").fit(X)
    tensor = torch.tensor(X, device="cuda")
    try:
        context = config_context(array_api_dispatch=True)
        with context:
            codes = model.transform(tensor)
            restored = model.inverse_transform(codes)
    except ImportError as error:
        pytest.skip(str(error))
    assert codes.device == restored.device == tensor.device
    assert_allclose(codes.cpu(), model.transform(X), rtol=1e-10)
    assert_allclose(
        restored.cpu(), model.inverse_transform(model.transform(X)), rtol=1e-10
    )
