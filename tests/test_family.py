"""Deep, higher-order, denoising: the family's other members, through the estimator."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from torch.func import jacrev, vmap

from skcae.engine.activations import ACTIVATIONS

# Few of these fits are long.
pytestmark = pytest.mark.filterwarnings("ignore:The reconstruction explains")

ENDLESS = {"tol": 0, "n_iter_no_change": 10**6}
# One batch an epoch and no step to speak of: curves are the objective at the weights.
STILL = {
    "batch_size": 60,
    "learning_rate_init": 1e-100,
    "precision": "float64",
    **ENDLESS,
}
LAYERS = [(6, 4), (3, 9), (7, 5, 3)]


def fit_to_max_iter(estimator, X):
    with pytest.warns(ConvergenceWarning):
        return estimator.fit(X)


def encode(model, x):
    """The encoder of the fitted arrays, written for one row or many."""
    for W, b in zip(model.encoder_coefs_, model.encoder_intercepts_, strict=True):
        x = ACTIVATIONS[model.activation].value(x @ torch.tensor(W) + torch.tensor(b))
    return x


def jacobians(model, X):
    """Of every row, by automatic differentiation."""
    return vmap(jacrev(lambda row: encode(model, row)))(torch.tensor(X)).numpy()


@pytest.mark.parametrize("n_hidden", LAYERS, ids=str)
@pytest.mark.parametrize("tied_weights", [False, True])
def test_fitted_layers(n_hidden, tied_weights, X, make):
    model = make(n_hidden=n_hidden, tied_weights=tied_weights).fit(X)
    sizes = (8, *n_hidden)
    shapes = list(pairwise(sizes))
    assert [W.shape for W in model.encoder_coefs_] == shapes
    assert [b.shape for b in model.encoder_intercepts_] == [s[1:] for s in shapes]
    assert [V.shape for V in model.decoder_coefs_] == [s[::-1] for s in shapes[::-1]]
    assert [c.shape for c in model.decoder_intercepts_] == [s[:1] for s in shapes[::-1]]
    for W, V in zip(model.encoder_coefs_, model.decoder_coefs_[::-1], strict=True):
        assert np.array_equal(W.T, V) == tied_weights
    assert model.components_.shape == (n_hidden[0], 8)
    assert model.transform(X).shape == (60, n_hidden[-1])
    assert len(model.get_feature_names_out()) == n_hidden[-1]
    assert model.inverse_transform(model.transform(X)).shape == X.shape


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("n_hidden", LAYERS, ids=str)
def test_deep_methods_are_the_formulas(n_hidden, activation, X, make):
    model = make(
        n_hidden=n_hidden,
        activation=activation,
        tied_weights=False,
        precision="float64",
    ).fit(X)
    codes = encode(model, torch.tensor(X))
    assert_allclose(model.transform(X), codes, rtol=1e-11, atol=1e-15)
    J = jacobians(model, X)
    assert_allclose(model.jacobian(X), J, rtol=1e-9, atol=1e-12)
    assert_allclose(model.contraction(X), (J**2).sum(axis=(1, 2)), rtol=1e-9)


def test_one_layer_in_a_sequence_is_one_layer(X, make):
    single, sequence = make(n_hidden=5).fit(X), make(n_hidden=[5]).fit(X)
    assert_allclose(single.transform(X), sequence.transform(X), rtol=0)


@pytest.mark.parametrize("lam", [0, 0.5])
@pytest.mark.parametrize("n_hidden", [5, (6, 4)], ids=str)
def test_curves_of_exact_penalties_are_the_formulas(n_hidden, lam, X, make):
    settings = {"lam": lam, "alpha": 0.25, "n_projections": None, "max_iter": 1}
    model = fit_to_max_iter(make(n_hidden=n_hidden, **settings, **STILL), X)
    contraction = (jacobians(model, X) ** 2).sum(axis=(1, 2)).mean()
    assert_allclose(model.history_["contraction"], contraction, rtol=1e-10)
    squares = sum((W**2).sum() for W in model.encoder_coefs_)
    total = -model.score(X) + lam * contraction + 0.25 * squares
    assert_allclose(model.loss_curve_, total, rtol=1e-10)


def test_projections_are_unbiased(X, make):
    model = make(n_hidden=(6, 4), max_iter=400, **STILL)
    curve = fit_to_max_iter(model, X).history_["contraction"]
    expected = model.contraction(X).mean()
    error = curve.std() / 400**0.5
    assert abs(curve.mean() - expected) < 4 * error < 0.05 * expected
    # As many projections as units leave nothing to chance.
    exact = fit_to_max_iter(model.set_params(max_iter=3, n_projections=4), X)
    assert_allclose(exact.history_["contraction"], exact.contraction(X).mean())


@pytest.mark.parametrize("n_hidden", [5, (6, 4)], ids=str)
def test_curvature_is_the_mean_change_of_the_jacobian(n_hidden, X, make):
    model = make(
        n_hidden=n_hidden, gamma=2, sigma=0.3, n_projections=None, max_iter=200, **STILL
    )
    curve = fit_to_max_iter(model, X).history_["curvature"]
    # Two draws for each row and epoch here, fifty there.
    rng = np.random.default_rng(0)
    J = jacobians(model, X)
    expected = np.mean(
        [
            ((jacobians(model, X + 0.3 * rng.normal(size=X.shape)) - J) ** 2).sum() / 60
            for _ in range(50)
        ]
    )
    assert_allclose(curve.mean(), expected, rtol=0.03)
    penalty = model.lam_ * model.history_["contraction"]
    total = model.history_["reconstruction"] + penalty
    assert_allclose(model.loss_curve_, total + 2 * curve, rtol=1e-12)
    assert "curvature" not in make().fit(X).history_


@pytest.mark.parametrize("n_hidden", [5, (6, 4)], ids=str)
def test_gamma_flattens_the_jacobian(n_hidden, X, make):
    def change(model):
        rng = np.random.default_rng(0)
        J = model.jacobian(X)
        moved = model.jacobian(X + 0.3 * rng.normal(size=X.shape))
        return ((moved - J) ** 2).sum() / (J**2).sum()

    settings = {"n_hidden": n_hidden, "sigma": 0.3, "tol": 3e-3, "lam": 0}
    settings |= {"n_iter_no_change": 5, "max_iter": 2000}
    plain, flat = (make(gamma=gamma, **settings).fit(4 * X) for gamma in (0, 300))
    assert change(flat) < 0.7 * change(plain)


@pytest.mark.parametrize(
    "corruption, level", [("gaussian", 0.5), ("masking", 0.25)], ids=str
)
def test_corruption_is_of_the_input_alone(corruption, level, X, make):
    # Averaged over many epochs at the same weights, the curve is the mean error with
    # which the data are reconstructed from their corrupted selves.
    model = make(
        corruption=corruption, corruption_level=level, max_iter=300, lam=0, **STILL
    )
    curve = fit_to_max_iter(model, X).history_["reconstruction"]
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        if corruption == "gaussian":
            corrupted = X + level * rng.normal(size=X.shape)
        else:
            corrupted = X * (rng.uniform(size=X.shape) >= level)
        decoded = model.inverse_transform(model.transform(corrupted))
        errors.append(((X - decoded) ** 2).sum(axis=1).mean())
    assert_allclose(curve.mean(), np.mean(errors), rtol=0.02)
    assert curve.mean() > -1.5 * model.score(X)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_denoising_learns_to_denoise(early_stopping, digits, make):
    X = digits[0][:600]
    rng = np.random.default_rng(0)
    noisy = X + 0.4 * rng.normal(size=X.shape)

    def error(model):
        return ((model.inverse_transform(model.transform(noisy)) - X) ** 2).mean()

    settings = {"n_hidden": 64, "lam": 0, "tol": 1e-3, "n_iter_no_change": 5}
    plain = make(**settings).fit(X)
    settings |= {"corruption": "gaussian", "corruption_level": 0.4}
    denoising = make(early_stopping=early_stopping, **settings).fit(X)
    assert error(denoising) < 0.7 * error(plain)


def test_weight_decay_makes_weights_smaller(X, make):
    settings = {"tol": 1e-3, "n_iter_no_change": 5}
    norms = [
        np.square(make(alpha=alpha, **settings).fit(X).encoder_coefs_[0]).sum()
        for alpha in (0, 0.01, 0.1)
    ]
    assert norms[0] > 1.2 * norms[1] > 1.5 * norms[2]


VARIANTS = [
    {"n_hidden": (6, 4)},
    {"n_hidden": (6, 4), "gamma": 1, "tied_weights": False},
    {"gamma": 1, "early_stopping": True},
    {"corruption": "masking", "n_hidden": (6, 4)},
    {"corruption": "gaussian", "alpha": 0.1, "solver": "adam"},
]


@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
def test_every_variant_is_seeded_and_resumes(parameters, X, make):
    whole = fit_to_max_iter(make(max_iter=6, **ENDLESS | parameters), X)
    again = fit_to_max_iter(make(max_iter=6, **ENDLESS | parameters), X)
    parts = make(max_iter=3, warm_start=True, **ENDLESS | parameters)
    parts = fit_to_max_iter(fit_to_max_iter(parts, X), X)
    for model in (again, parts):
        assert np.array_equal(model.loss_curve_, whole.loss_curve_)
        assert np.array_equal(model.transform(X), whole.transform(X))


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
@pytest.mark.filterwarnings("ignore:precision='bfloat16' is emulated:UserWarning")
def test_every_variant_lowers_its_objective(parameters, precision, loss, X, make):
    model = make(
        loss=loss,
        output_activation="sigmoid",
        precision=precision,
        tol=1e-3,
        n_iter_no_change=3,
        **parameters,
    ).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert np.isfinite(model.transform(X)).all()


@pytest.mark.parametrize("solver", ["adam", "muon"])
def test_partial_fit_of_a_deep_model(solver, digits, make):
    X = digits[0][:512]
    model = make(n_hidden=(32, 16), lam=0.01, solver=solver, learning_rate_init=0.01)
    scores = []
    for _ in range(4):
        for chunk in np.array_split(X, 4):
            model.partial_fit(chunk)
        scores.append(model.score(X))
    assert (np.diff(scores) > 0).all()
    assert model.n_iter_ == 16


def test_a_stack_of_transformers_is_a_pipeline(digits, make):
    # Greedy layer-wise training as in the papers.
    X = digits[0][:600]
    settings = {"tol": 1e-2, "n_iter_no_change": 3, "lam": 0.01}
    stack = make_pipeline(make(n_hidden=48, **settings), make(n_hidden=16, **settings))
    codes = stack.fit_transform(X)
    assert codes.shape == (600, 16)
    restored = stack.inverse_transform(codes)
    # Sixteen principal components are the best that a linear model can do.
    pca = PCA(16).fit(X)
    best = ((pca.inverse_transform(pca.transform(X)) - X) ** 2).sum(axis=1).mean()
    error = ((restored - X) ** 2).sum(axis=1).mean()
    assert error < 2 * best
