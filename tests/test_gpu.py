"""On a GPU: the same answers, and no waiting for it within an epoch."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator

from skcae import ContractiveAutoencoderClassifier
from skcae.engine import batches
from skcae.engine.network import Architecture
from skcae.engine.training import Trainer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA device"
)

ENDLESS = {"tol": 0, "n_iter_no_change": 10**6}
VARIANTS = [{}, {"n_hidden": (6, 4)}, {"corruption": "masking"}, {"gamma": 1}]


@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
@pytest.mark.parametrize("resident", [True, False])
def test_a_fit_is_that_of_the_cpu(parameters, resident, X, make, monkeypatch):
    if not resident:
        monkeypatch.setattr(batches, "_belongs_on", lambda device, X: False)
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


@pytest.mark.parametrize(
    "parameters",
    [{}, {"corruption": "gaussian"}, {"tangent_weight": 0.1, "n_tangents": 2}],
    ids=str,
)
def test_fine_tuning_is_that_of_the_cpu(parameters, X, make):
    pretrained = FrozenEstimator(make(device="cpu", precision="float64").fit(X))
    y = np.digitize(X[:, 0], np.quantile(X[:, 0], [0.2, 0.4, 0.6, 0.8]))
    models = []
    for device in ("cpu", "cuda"):
        model = ContractiveAutoencoderClassifier(
            pretrained,
            device=device,
            max_iter=5,
            random_state=0,
            **ENDLESS | parameters,
        )
        with pytest.warns(ConvergenceWarning):
            models.append(model.fit(X, y))
    cpu, gpu = models
    assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-8)
    assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize(
    "sizes, parameters",
    [
        ((20, 8), {}),
        ((20, 8), {"corruption": "gaussian", "corruption_level": 0.1}),
        ((20, 8), {"corruption": "masking", "corruption_level": 0.1}),
        ((20, 8), {"gamma": 1.0, "sigma": 0.1}),
        ((20, 8, 4), {"n_projections": 2}),
        ((20, 8, 4), {"n_projections": 2, "gamma": 1.0, "sigma": 0.1}),
    ],
    ids=str,
)
def test_steps_do_not_wait_for_the_device(
    sizes, parameters, optimizer, tied, resident, monkeypatch
):
    if not resident:
        monkeypatch.setattr(batches, "_belongs_on", lambda device, X: False)
    rows = np.random.default_rng(0).random((256, 20), dtype=np.float32)
    trainer = Trainer(
        Architecture(sizes, tied=tied),
        rows,
        loss="squared_error",
        lam=0.1,
        learning_rate=1e-3,
        batch_size=64,
        precision="float32",
        device=torch.device("cuda"),
        seed=0,
        optimizer=optimizer,
        **parameters,
    )
    next(trainer.epochs())
    steps = trainer.group.steps(trainer.gradient, trainer.batches, trainer._corrupt)
    with torch.no_grad():
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in steps:
                trainer.optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


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
