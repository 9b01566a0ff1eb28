"""On a GPU: the same answers, and no waiting for it within an epoch."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

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
        monkeypatch.setattr(batches, "_fits", lambda rows, device: False)
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


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_steps_do_not_wait_for_the_device(tied, optimizer):
    rows = np.random.default_rng(0).random((256, 20), dtype=np.float32)
    trainer = Trainer(
        Architecture((20, 8), tied=tied),
        rows,
        loss="squared_error",
        lam=0.1,
        learning_rate=1e-3,
        batch_size=64,
        precision="float32",
        device=torch.device("cuda"),
        seed=0,
        optimizer=optimizer,
    )
    next(trainer.epochs())
    with torch.no_grad():
        selected = list(trainer.batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in selected:
                trainer.gradient(batch)
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
