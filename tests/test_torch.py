"""Estimators as PyTorch modules and back, and the penalty of PyTorch's own modules."""

import io

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn
from torch.nn.utils import prune

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.modules import MODULES
from skcae.export import from_torch, to_torch
from skcae.losses import contractive_penalty

MODELS = {
    "default": {},
    "deep": {"n_hidden": (6, 4, 3), "tied_weights": False},
    "deep, tied": {"n_hidden": (6, 3), "activation": "tanh"},
    "cross-entropy": {"loss": "cross_entropy", "activation": "softplus"},
}
METHODS = {
    "encoder": lambda model, X: model.transform(X),
    "decoder": lambda model, X: model.inverse_transform(X),
    "autoencoder": lambda model, X: model.inverse_transform(model.transform(X)),
}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((30, 8), dtype=np.float32)


def fitted(X, **parameters):
    settings = {"n_hidden": 5, "tol": 0.3, "n_iter_no_change": 1, "random_state": 0}
    return ContractiveAutoencoderTransformer(**settings | parameters).fit(X)


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def model(request, X):
    return fitted(X, **request.param)


@pytest.fixture(scope="module")
def classifier(X):
    return ContractiveAutoencoderClassifier(
        fitted(X, n_hidden=(6, 4)), tol=0.3, random_state=0
    ).fit(X, np.arange(30) % 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_modules_compute_what_the_engine_computes(name):
    a = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    torch.testing.assert_close(MODULES[name]()(a), ACTIVATIONS[name].value(a))


def test_every_activation_has_a_module():
    assert MODULES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("part", METHODS)
def test_a_module_computes_what_the_estimator_computes(part, model, X):
    rows = model.transform(X) if part == "decoder" else X
    module = to_torch(model, part)
    assert isinstance(module, nn.Sequential)
    result = module(torch.tensor(rows)).detach().numpy()
    assert result.dtype == np.float32
    assert_allclose(result, METHODS[part](model, rows), atol=1e-6, rtol=1e-6)


def test_the_module_of_a_classifier_computes_logits(classifier, X):
    probabilities = to_torch(classifier)(torch.tensor(X)).softmax(dim=1)
    assert_allclose(
        probabilities.detach().numpy(), classifier.predict_proba(X), atol=1e-6
    )


def test_modules_have_names(X):
    module = to_torch(fitted(X, n_hidden=(6, 3)), "autoencoder")
    assert list(module.state_dict()) == [
        f"{part}.layer{i}.{kind}"
        for part in ("encoder", "decoder")
        for i in (1, 2)
        for kind in ("weight", "bias")
    ]
    assert isinstance(module.encoder.activation2, nn.Sigmoid)


@pytest.mark.parametrize("part", METHODS)
def test_trained_weights_come_back(part, model, X):
    before = METHODS[part](model, model.transform(X) if part == "decoder" else X)
    module = to_torch(model, part)
    same = from_torch(module, model, part)
    for a, b in zip(same._arrays, model._arrays, strict=True):
        for x, y in zip(a, b, strict=True):
            assert_array_equal(x, y, strict=True)
    rows = torch.tensor(model.transform(X) if part == "decoder" else X)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(rows).square().mean().backward()
        optimizer.step()
    trained = from_torch(module, model, part)
    expected = module(rows).detach().numpy()
    assert_allclose(METHODS[part](trained, rows.numpy()), expected, atol=1e-5)
    assert not np.allclose(expected, before, atol=1e-3)
    assert_array_equal(METHODS[part](model, rows.numpy()), before)
    # It can be trained on.
    assert trained.tied_weights is False
    assert trained.partial_fit(X).n_iter_ == model.n_iter_ + 1


def test_the_weights_of_a_classifier_come_back(classifier, X):
    module = to_torch(classifier)
    with torch.no_grad():
        module.layer3.bias[1] += 100
    changed = from_torch(module, classifier)
    assert (changed.predict(X) == 1).all()
    assert not (classifier.predict(X) == 1).all()


def test_saved_weights_come_back(model, X):
    file = io.BytesIO()
    torch.save(to_torch(model).state_dict(), file)
    file.seek(0)
    module = to_torch(model)
    with torch.no_grad():
        module.layer1.weight.zero_()
    module.load_state_dict(torch.load(file))
    assert_array_equal(from_torch(module, model).transform(X), model.transform(X))


def test_bad_input(model, classifier, X):
    with pytest.raises(NotFittedError):
        to_torch(ContractiveAutoencoderTransformer())
    with pytest.raises(InvalidParameterError, match="'part' parameter"):
        to_torch(model, "head")
    with pytest.raises(ValueError, match="part must be None for a classifier"):
        to_torch(classifier, "encoder")
    with pytest.raises(ValueError, match="module must have parameters of the names"):
        from_torch(nn.Linear(8, 5), model)
    with pytest.raises(ValueError, match="module must have parameters of the names"):
        from_torch(to_torch(model, "decoder"), model)
    module = to_torch(model)
    with pytest.raises(InvalidParameterError, match="'module' parameter"):
        from_torch(module.state_dict(), model)
    with torch.no_grad():
        module.layer1.bias[0] = np.nan
    with pytest.raises(ValueError, match=r"infinite or NaN values in 'layer1\.bias'"):
        from_torch(module, model)


# The penalty


def oracle(module, x):
    """Return the squared norms of the Jacobians by `torch.func`."""
    jacobians = torch.func.vmap(torch.func.jacrev(module))(x)
    return jacobians.square().flatten(1).sum(dim=1)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(8, 6), nn.Parameter(torch.rand(6))

    def forward(self, x):
        return torch.tanh(self.layer(x)) * self.scale + self.layer(x).sin()


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def hooked(module):
    module[0].register_forward_hook(lambda module, inputs, output: 3 * output)
    return module


ENCODERS = {
    "one layer": lambda: nn.Sequential(nn.Linear(8, 5), nn.Sigmoid()),
    "without bias": lambda: nn.Sequential(nn.Linear(8, 5, bias=False), nn.Tanh()),
    "deep": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh()
    ),
    "another slope": lambda: nn.Sequential(nn.Linear(8, 5), nn.LeakyReLU(0.3)),
    "two activations": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4), nn.Sigmoid()
    ),
    "a linear end": lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)),
    "own": Own,
    "a subclass": lambda: Residual(nn.Linear(8, 8), nn.Tanh()),
    "a hook": lambda: hooked(nn.Sequential(nn.Linear(8, 5), nn.Tanh())),
    "compiled": lambda: torch.compile(
        nn.Sequential(nn.Linear(8, 5), nn.Tanh()), backend="aot_eager"
    ),
    "pruned": lambda: nn.Sequential(
        prune.random_unstructured(nn.Linear(8, 5), "weight", 0.3), nn.Tanh()
    ),
}


@pytest.fixture(params=ENCODERS.values(), ids=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return request.param().double()


def rows():
    return torch.rand(9, 8, dtype=torch.float64, generator=torch.Generator())


def test_the_penalty_and_its_gradient(encoder):
    x = rows().requires_grad_()
    inputs = [x, *encoder.parameters()]
    penalty, expected = contractive_penalty(encoder, x), oracle(encoder, x)
    torch.testing.assert_close(penalty, expected)
    gradients = (
        torch.autograd.grad(value.sum(), inputs, allow_unused=True)
        for value in (penalty, expected)
    )
    for actual, other in zip(*gradients, strict=True):
        zero = torch.zeros(())  # of a bias behind all activations
        actual, other = (zero if g is None else g for g in (actual, other))
        torch.testing.assert_close(actual, other.expand_as(actual), check_dtype=False)


def test_nothing_is_recorded_without_gradients(encoder):
    with torch.no_grad():
        penalty = contractive_penalty(encoder, rows())
    assert not penalty.requires_grad
    torch.testing.assert_close(penalty, contractive_penalty(encoder, rows()).detach())


def test_the_estimate_is_unbiased_and_exact_in_the_end(encoder):
    x, generator = rows(), torch.Generator().manual_seed(0)
    exact = contractive_penalty(encoder, x)
    estimates = [
        contractive_penalty(encoder, x, 2, generator).detach() for _ in range(600)
    ]
    torch.testing.assert_close(
        torch.stack(estimates).mean(dim=0), exact.detach(), rtol=0.1, atol=0
    )
    torch.testing.assert_close(contractive_penalty(encoder, x, 100, generator), exact)


def test_the_penalty_of_an_estimators_module_is_its_contraction(model, X):
    penalty = contractive_penalty(to_torch(model), torch.tensor(X))
    assert_allclose(penalty.detach().numpy(), model.contraction(X), rtol=1e-4)


def test_inputs_may_be_images():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten())
    x = torch.rand(4, 1, 5, 5)
    jacobians = torch.autograd.functional.jacobian(encoder, x)
    own = torch.stack([jacobians[i, :, i].square().sum() for i in range(4)])
    torch.testing.assert_close(contractive_penalty(encoder, x), own)


@pytest.mark.parametrize("n_projections", [0, 1.5, "2", True])
def test_the_number_of_projections_is_checked(n_projections):
    with pytest.raises(
        ValueError, match=rf"n_projections must be .* Got {n_projections!r} instead"
    ):
        contractive_penalty(ENCODERS["deep"](), torch.rand(3, 8), n_projections)


@pytest.mark.parametrize("x, got", [(torch.ones(3, 8).int(), "int32"), ([1.0], "list")])
def test_inputs_are_checked(x, got):
    with pytest.raises(TypeError, match=f"x must be a tensor of .* Got .*{got}"):
        contractive_penalty(ENCODERS["deep"](), x)


def test_in_inference_mode(encoder):
    expected = contractive_penalty(encoder, rows()).detach()
    with torch.inference_mode():
        penalty = contractive_penalty(encoder, rows())
    torch.testing.assert_close(penalty, expected)
