"""Displays of features and of outlier scores."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skcae import ContractiveAutoencoderDetector, ContractiveAutoencoderTransformer
from skcae.displays import (
    CodeDisplay,
    FeatureErrorDisplay,
    OutlierScoreDisplay,
    PenaltySweepDisplay,
    ReconstructionDisplay,
    RobustnessDisplay,
)


@pytest.fixture(autouse=True)
def pyplot():
    """Matplotlib without a screen; closes the test's figures."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def make(**parameters):
    defaults = {"n_hidden": 8, "tol": 0.1, "n_iter_no_change": 1, "random_state": 0}
    return ContractiveAutoencoderTransformer(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def cae(digits):
    return make().fit(digits[0])


@pytest.fixture(scope="module")
def detector(digits):
    return ContractiveAutoencoderDetector(make(), random_state=0).fit(digits[0])


def check_contract(display, pyplot):
    """A display can be drawn again, on other axes, by `plot`."""
    display.figure_.canvas.draw()
    _, ax = pyplot.subplots()
    assert display.plot(ax) is display
    assert display.ax_ is ax
    display.figure_.canvas.draw()
    before = display.figure_
    assert display.plot().figure_ is not before


# Codes


def test_codes_are_shown_in_the_plane_of_their_principal_components(
    cae, digits, pyplot
):
    X, y = digits
    display = CodeDisplay.from_estimator(cae, X, y)
    expected = PCA(2).fit_transform(cae.transform(X))
    assert_allclose(display.points, expected, atol=1e-8)
    assert len(display.points_) == 10
    for digit, points in enumerate(display.points_):
        assert_allclose(points.get_offsets(), expected[y == digit], atol=1e-8)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == [str(digit) for digit in range(10)]
    assert "of the variance" in display.ax_.get_xlabel()
    check_contract(display, pyplot)


def test_values_have_a_colour_bar(cae, digits, pyplot):
    X, _ = digits
    display = CodeDisplay.from_estimator(cae, X, X.mean(axis=1))
    assert display.colorbar_ is not None
    assert_allclose(display.points_[0].get_array(), X.mean(axis=1))
    check_contract(display, pyplot)
    plain = CodeDisplay.from_estimator(cae, X)
    assert plain.colorbar_ is None
    assert plain.ax_.get_legend() is None


def test_two_units_are_shown_as_they_are(digits):
    X, y = digits
    two = make(n_hidden=2).fit(X)
    display = CodeDisplay.from_estimator(two, X, y)
    assert_array_equal(display.points, two.transform(X))
    assert display.ax_.get_xlabel() == "unit 0"


def test_reducers(cae, digits):
    X, _ = digits
    reducer = TruncatedSVD(2, random_state=0)
    display = CodeDisplay.from_estimator(cae, X, reducer=reducer)
    assert_allclose(display.points, reducer.fit_transform(cae.transform(X)))
    with pytest.raises(ValueError, match=r"reducer must return two .* \(300, 3\)"):
        CodeDisplay.from_estimator(cae, X, reducer=PCA(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        CodeDisplay.from_estimator(cae, X, np.ones(3))
    with pytest.raises(ValueError, match="'estimator' parameter"):
        CodeDisplay.from_estimator(LogisticRegression(), X)


# Robustness


def test_scores_on_noisy_rows(digits, pyplot):
    X, y = digits
    models = {
        name: make_pipeline(*steps, LogisticRegression(max_iter=500)).fit(X, y)
        for name, steps in {"raw": [], "features": [make(), StandardScaler()]}.items()
    }
    display = RobustnessDisplay.from_estimators(
        models, X, y, levels=[0, 1], n_repeats=2, random_state=0
    )
    for name, model in models.items():
        assert_allclose(display.scores[name][0], model.score(X, y))
        assert (display.scores[name][1] < display.scores[name][0]).all()
    # The first noise that is drawn, in units of the root of the mean variance.
    noise = np.random.RandomState(0).standard_normal(X.shape)
    noisy = X + np.sqrt(X.var(axis=0).mean()) * noise
    assert display.scores["raw"][1, 0] == models["raw"].score(noisy, y)
    assert [line.get_label() for line in display.lines_] == ["raw", "features"]
    check_contract(display, pyplot)


def test_scorers_and_bad_levels(cae, digits):
    X, _ = digits
    display = RobustnessDisplay.from_estimators(
        {"cae": cae},
        X,
        levels=[0.5],
        scorer=lambda model, X, y: model.score(X),
        n_repeats=1,
    )
    assert display.scores["cae"].shape == (1, 1)
    with pytest.raises(ValueError, match=r"levels must be .* \[0, inf\)"):
        RobustnessDisplay.from_estimators({"cae": cae}, X, levels=[-1])
    with pytest.raises(ValueError, match="at least one item"):
        RobustnessDisplay.from_estimators({}, X)


# The sweep over lam


def test_the_loss_and_the_contraction_by_lam(digits, pyplot):
    X, y = digits

    def accuracies(model):
        classifier = LogisticRegression(max_iter=500).fit(model.transform(X), y)
        return classifier.score(model.transform(X), y)

    lams = [1.0, 0.01]
    display = PenaltySweepDisplay.from_estimator(
        make(), X, lams=lams, scorer=accuracies
    )
    assert_array_equal(display.lams, sorted(lams))
    for i, lam in enumerate(sorted(lams)):
        model = make(lam=lam).fit(X)
        assert display.curves["reconstruction"][i] == -model.score(X)
        assert display.curves["contraction"][i] == model.contraction(X).mean()
        assert display.scores[i, 0] == accuracies(model)
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["reconstruction", "contraction", "score"]
    check_contract(display, pyplot)


@pytest.mark.filterwarnings("ignore:Maximum iterations", "ignore:The reconstruction")
def test_lams_are_taken_from_that_of_auto(cae, digits):
    display = PenaltySweepDisplay.from_estimator(make(), digits[0], lams=2)
    assert_allclose(display.lams, cae.lam_ * np.array([0.1, 1000]), rtol=1e-6)
    assert display.scores is None
    with pytest.raises(ValueError, match=r"lams must be .* \(0, inf\)"):
        PenaltySweepDisplay.from_estimator(make(), digits[0], lams=[0, 1])


def test_the_scores_of_a_search(digits, pyplot):
    X, y = digits
    search = GridSearchCV(
        make_pipeline(make(), LogisticRegression(max_iter=500)),
        {
            "contractiveautoencodertransformer__lam": [0.01, 1, "auto"],
            "contractiveautoencodertransformer__n_hidden": [2, 8],
        },
        cv=3,
    ).fit(X, y)
    display = PenaltySweepDisplay.from_search(search)
    assert_array_equal(display.lams, [0.01, 1])
    results = pd.DataFrame(search.cv_results_)
    best = results.groupby(results.columns[4])["mean_test_score"].max()
    for lam, scores in zip(display.lams, display.scores, strict=True):
        assert scores.mean() == pytest.approx(best[lam])
    check_contract(display, pyplot)
    with pytest.raises(ValueError, match="search must be fitted, over lam"):
        PenaltySweepDisplay.from_search(GridSearchCV(make(), {"n_hidden": [2]}))


# Outliers


def test_the_histogram_of_scores(detector, digits, pyplot):
    X, y = digits
    display = OutlierScoreDisplay.from_estimator(detector, X)
    counts = sum(bar.get_height() for bar in display.bars_[0])
    assert counts == len(X)
    assert display.line_.get_xdata()[0] == detector.offset_
    n_below = (detector.predict(X) == -1).sum()
    assert f"{n_below} of 300 below" in display.line_.get_label()
    groups = OutlierScoreDisplay.from_estimator(detector, X, y == 0)
    sizes = [sum(bar.get_height() for bar in bars) for bars in groups.bars_]
    assert sizes == [(y != 0).sum(), (y == 0).sum()]
    check_contract(groups, pyplot)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        OutlierScoreDisplay.from_estimator(detector, X, y[:5])
    with pytest.raises(NotFittedError):
        OutlierScoreDisplay.from_estimator(ContractiveAutoencoderDetector(), X)


@pytest.mark.parametrize("image_shape", [None, (8, 8)])
def test_the_errors_of_the_greatest_outliers(detector, digits, image_shape, pyplot):
    X, _ = digits
    display = FeatureErrorDisplay.from_estimator(
        detector, X, image_shape=image_shape, max_samples=4
    )
    lowest = np.argsort(detector.score_samples(X))[:4]
    errors = detector.feature_errors(X[lowest])
    assert_allclose(display.errors.reshape(4, -1), errors)
    assert_allclose(display.inputs.reshape(4, -1), X[lowest], rtol=1e-6)
    check_contract(display, pyplot)


def test_errors_have_the_names_of_the_features(digits, pyplot):
    frame = pd.DataFrame(digits[0]).add_prefix("pixel")
    detector = ContractiveAutoencoderDetector(make(), random_state=0).fit(frame)
    display = FeatureErrorDisplay.from_estimator(detector, frame)
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels[0] == "pixel0"


def test_pipelines_that_end_in_a_detector(digits, pyplot):
    X = pd.DataFrame(digits[0]).add_prefix("pixel")
    X.index = [f"digit {i}" for i in range(len(X))]
    scaler = StandardScaler()
    detector = ContractiveAutoencoderDetector(make(), random_state=0)
    model = make_pipeline(scaler, detector).fit(X)
    scores = OutlierScoreDisplay.from_estimator(model, X)
    assert_array_equal(scores.scores, model.score_samples(X))
    assert scores.offset == detector.offset_
    display = FeatureErrorDisplay.from_estimator(model, X, max_samples=3)
    lowest = np.argsort(model.score_samples(X))[:3]
    scaled = scaler.transform(X.iloc[lowest])
    assert_allclose(display.errors, detector.feature_errors(scaled))
    assert_array_equal(display.feature_names, X.columns)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [f"digit {i}" for i in lowest]
    check_contract(display, pyplot)
    # Without an index, rows have their numbers; without names, features theirs.
    nameless = FunctionTransformer(np.sqrt)
    plain = make_pipeline(nameless, detector).fit(digits[0])
    display = FeatureErrorDisplay.from_estimator(plain, digits[0], max_samples=3)
    lowest = np.argsort(plain.score_samples(digits[0]))[:3]
    assert_array_equal(display.sample_names, lowest)
    assert display.feature_names[0] == "x0"
    for Display in OutlierScoreDisplay, FeatureErrorDisplay:
        with pytest.raises(ValueError, match="or a Pipeline that ends in one"):
            Display.from_estimator(make_pipeline(detector, scaler), X)


# Clean samples below the reconstructions


@pytest.mark.parametrize("image_shape", [None, (8, 8)])
def test_clean_samples(cae, digits, image_shape, pyplot):
    X, _ = digits
    noisy = X + 0.1
    display = ReconstructionDisplay.from_estimator(
        cae, noisy, clean=X, image_shape=image_shape, max_samples=3
    )
    assert_allclose(display.clean.reshape(3, -1), X[:3], rtol=1e-6)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[:3] == ["input", "reconstruction", "clean"]
    check_contract(display, pyplot)
    with pytest.raises(ValueError, match="clean must have as many samples"):
        ReconstructionDisplay.from_estimator(cae, noisy, clean=X[:2])
