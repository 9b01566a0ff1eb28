import importlib.util
import sys
import warnings
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from scipy.sparse import coo_array, csr_array
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

from skcae import (
    ContractiveAutoencoderClassifier,
    ContractiveAutoencoderTransformer,
    displays,
    geometry,
    sampling,
)
from skcae.stacking import stack

SHAPE = (2, 4)

# The data are small, beside walks with the default sigma.
pytestmark = pytest.mark.filterwarnings("ignore:The walks have left the data")

# What each needs besides a fitted estimator of 8 features.
DISPLAYS = {
    displays.TrainingCurveDisplay: lambda X: {},
    displays.ComponentsDisplay: lambda X: {},
    displays.ReconstructionDisplay: lambda X: {"X": X, "image_shape": SHAPE},
    displays.SingularValueDisplay: lambda X: {"X": X},
    displays.ContractionRatioDisplay: lambda X: {"X": X},
    displays.SamplingDisplay: lambda X: {"X": X, "image_shape": SHAPE},
    displays.TangentDisplay: lambda X: {
        "X": X,
        "image_shape": SHAPE,
        "n_components": 2,
    },
}
every_display = pytest.mark.parametrize(
    "Display", DISPLAYS, ids=lambda Display: Display.__name__
)
image_displays = pytest.mark.parametrize(
    "Display",
    [D for D in DISPLAYS if "image_shape" in DISPLAYS[D](None)],
    ids=lambda Display: Display.__name__,
)


@pytest.fixture(autouse=True)
def pyplot():
    """Matplotlib without a screen; closes the test's figures."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def cae(make, X):
    return make(
        output_activation="sigmoid", loss="cross_entropy", early_stopping=True
    ).fit(X)


def drawn(artist):
    """Return the values of a mosaic of images, NaN where it is transparent."""
    return artist.get_array().filled(np.nan)


def test_every_display_is_tested():
    others = {
        displays.CodeDisplay,
        displays.FeatureErrorDisplay,
        displays.OutlierScoreDisplay,
        displays.PenaltySweepDisplay,
        displays.RobustnessDisplay,
    }  # in test_feature_displays.py
    assert {D.__name__ for D in {*DISPLAYS, *others}} == set(displays.__all__)


@every_display
def test_it_keeps_to_the_contract_of_displays(Display, cae, X, pyplot):
    display = Display.from_estimator(cae, **DISPLAYS[Display](X[:5]))
    assert isinstance(display, Display)
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()
    # Plot again, somewhere else.
    first = display.figure_
    figure, ax = pyplot.subplots()
    assert display.plot(ax) is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    figure.canvas.draw()
    assert display.plot().figure_ not in (first, figure)
    # Straight to given axes: no figure of its own.
    n_figures = len(pyplot.get_fignums())
    other = Display.from_estimator(cae, **DISPLAYS[Display](X[:5]), ax=ax)
    assert other.ax_ is ax
    assert len(pyplot.get_fignums()) == n_figures


@every_display
def test_the_constructor_only_stores(Display, monkeypatch, cae, X):
    display = Display.from_estimator(cae, **DISPLAYS[Display](X[:5]))
    stored = {
        name: value for name, value in vars(display).items() if not name.endswith("_")
    }
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    copy = Display(**stored)
    assert vars(copy) == stored
    with pytest.raises(ImportError, match=rf"{Display.__name__}\.plot requires matplo"):
        copy.plot()
    with pytest.raises(ImportError, match=r"\.from_estimator requires matplotlib"):
        Display.from_estimator(cae, **DISPLAYS[Display](X[:5]))


@every_display
def test_estimators_must_be_fitted_autoencoders(Display, make, X):
    with pytest.raises(NotFittedError):
        Display.from_estimator(make(), **DISPLAYS[Display](X[:5]))
    with pytest.raises(ValueError, match="'estimator' parameter"):
        Display.from_estimator(BaseEstimator(), **DISPLAYS[Display](X[:5]))


@every_display
def test_data_frames_are_welcome(Display, make, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    Display.from_estimator(make().fit(frame), **DISPLAYS[Display](frame[:5]))


@image_displays
def test_image_shapes_must_fit(Display, cae, X, pyplot):
    arguments = DISPLAYS[Display](X[:5])
    for shape in [(2, 3), (8,), (2, 2, 2), (-2, -4), (2.0, 4.0), ("2", "4")]:
        message = r"image_shape must be two ints .* features, 8\. Got [(\[]"
        with pytest.raises(ValueError, match=message):
            Display.from_estimator(cae, **arguments | {"image_shape": shape})
    with pytest.raises(ValueError, match="'image_shape' parameter"):
        Display.from_estimator(cae, **arguments | {"image_shape": 8})
    assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    "Display",
    [
        displays.ContractionRatioDisplay,
        displays.ReconstructionDisplay,
        displays.SamplingDisplay,
        displays.SingularValueDisplay,
        displays.TangentDisplay,
    ],
)
@pytest.mark.parametrize(
    "convert",
    [csr_array, lambda X: torch.tensor(X, requires_grad=True)],
    ids=["sparse", "tensor"],
)
def test_other_rows_look_like_dense_ones(convert, Display, cae, X):
    arguments = DISPLAYS[Display](X[:5])
    if Display in (displays.ContractionRatioDisplay, displays.SamplingDisplay):
        arguments["random_state"] = 0
    dense = Display.from_estimator(cae, **arguments)
    sparse = Display.from_estimator(cae, **arguments | {"X": convert(X[:5])})
    for name, value in vars(dense).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(vars(sparse)[name], value, atol=1e-12)


@pytest.mark.parametrize("n_samples, n_components", [(1, 1), (1, 20), (40, 3)])
def test_no_text_is_cut_off(n_samples, n_components, make, pyplot):
    X = np.random.default_rng(0).normal(size=(100, 24))
    cae = make(n_hidden=24).fit(X)
    X = X[:n_samples]
    images = {"image_shape": (4, 6)}
    shown = [
        displays.ComponentsDisplay.from_estimator(cae, indices=range(n_components)),
        displays.ComponentsDisplay.from_estimator(
            cae, indices=range(n_components), **images
        ),
    ]
    for shape in ({"image_shape": (4, 6)}, {}):
        rows = {"max_samples": None, **shape}
        shown += [
            displays.ReconstructionDisplay.from_estimator(cae, X, **rows),
            displays.SamplingDisplay.from_estimator(
                cae, X, n_steps=n_components, **rows
            ),
            displays.TangentDisplay.from_estimator(
                cae, X, n_components=n_components, **rows
            ),
        ]
    for display in shown:
        figure = display.figure_
        figure.canvas.draw()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 > -0.01, display
        assert box.y0 > -0.01, display
        assert box.x1 < width + 0.01, display
        assert box.y1 < height + 0.01, display
        labels = [t for t in display.ax_.get_xticklabels() if t.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes)), display


def curves_of(display):
    """Return the values of all lines by label."""
    return {line.get_label(): line.get_ydata() for line in display.lines_}


@pytest.mark.parametrize("gamma", [0, 2])
@pytest.mark.parametrize("alpha", [0, 0.1])
def test_terms_of_the_objective_sum_to_it(alpha, gamma, make, X):
    cae = make(lam=0.05, gamma=gamma, alpha=alpha / 100).fit(X)
    display = displays.TrainingCurveDisplay.from_estimator(cae)
    for line in display.lines_:
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, cae.n_iter_ + 1))
    curves = curves_of(display)
    np.testing.assert_array_equal(curves.pop("objective"), cae.loss_curve_)
    np.testing.assert_allclose(sum(curves.values()), cae.loss_curve_)
    if alpha:
        assert cae.tied_weights
        penalty = cae.alpha * np.square(cae.components_).sum()
        assert curves.pop("weight decay")[-1] == pytest.approx(penalty, rel=1e-4)
    if gamma:
        expected = 2 * cae.history_["curvature"]
        np.testing.assert_allclose(curves.pop("gamma · curvature"), expected)
    expected = 0.05 * cae.history_["contraction"]
    np.testing.assert_allclose(curves.pop("lam · contraction"), expected)
    expected = cae.history_["reconstruction"]
    np.testing.assert_array_equal(curves.pop("reconstruction"), expected)
    assert not curves


def test_terms_without_weight_have_no_curve(make, X):
    cae = make(lam=0).fit(X)
    curves = curves_of(displays.TrainingCurveDisplay.from_estimator(cae))
    assert list(curves) == ["objective", "reconstruction"]


def test_the_objective_of_held_out_samples(cae):
    curves = curves_of(displays.TrainingCurveDisplay.from_estimator(cae))
    held_out = curves.pop("objective, held out")
    np.testing.assert_array_equal(held_out, cae.history_["validation_loss"])
    assert list(curves) == ["objective", "reconstruction", "lam · contraction"]


def test_terms_that_later_calls_added(make, X):
    cae = make(warm_start=True, max_iter=2, alpha=0.1, tol=0, n_iter_no_change=9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        cae.fit(X)
        cae.set_params(gamma=1).fit(X)
    curves = curves_of(displays.TrainingCurveDisplay.from_estimator(cae))
    assert np.isnan(curves["gamma · curvature"]).any()
    objective = curves.pop("objective")
    assert np.isfinite(objective).all()
    np.testing.assert_allclose(np.nansum(list(curves.values()), axis=0), objective)


def test_training_curves_of_a_classifier(X):
    y = X[:, 0] > np.median(X[:, 0])
    model = ContractiveAutoencoderClassifier(
        ContractiveAutoencoderTransformer(4, max_iter=2),
        tangent_weight=0.5,
        n_tangents=2,
        alpha=0.01,
        early_stopping=True,
        max_iter=3,
        random_state=0,
    )
    with pytest.raises(NotFittedError):
        displays.TrainingCurveDisplay.from_estimator(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    curves = curves_of(displays.TrainingCurveDisplay.from_estimator(model))
    history = model.history_
    held_out = curves.pop("cross-entropy, held out")
    np.testing.assert_array_equal(held_out, history["validation_loss"])
    np.testing.assert_array_equal(curves.pop("objective"), model.loss_curve_)
    np.testing.assert_allclose(sum(curves.values()), model.loss_curve_)
    np.testing.assert_array_equal(curves["cross-entropy"], history["cross_entropy"])
    tangent = curves["tangent_weight · tangent"]
    np.testing.assert_allclose(tangent, 0.5 * history["tangent"])
    # The network that is kept is that of one of the epochs.
    penalty = 0.01 * sum(np.square(weight).sum() for weight in model.coefs_)
    assert np.isclose(curves["weight decay"], penalty, rtol=1e-4).any()


def test_what_was_stacked_has_no_training_curves(cae):
    stacked = stack(make_pipeline(cae))
    with pytest.raises(ValueError, match="estimator must have been trained for at"):
        displays.TrainingCurveDisplay.from_estimator(stacked)


def test_the_legend_of_training_curves_hides_none(cae, pyplot):
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    for ax, n in zip(axes, (1, 2), strict=True):
        for _ in range(n):
            display = displays.TrainingCurveDisplay.from_estimator(cae, ax=ax)
        figure.canvas.draw()
        lowest = ax.get_legend().get_window_extent().y0
        for line in display.lines_:
            heights = ax.transData.transform(line.get_xydata())[:, 1]
            assert heights.max() < lowest


@pytest.mark.parametrize("lowest, numbers", [(0.1, True), (1e-5, False)])
def test_numbers_between_powers_of_ten(lowest, numbers, pyplot):
    curves = {"objective": np.geomspace(10, lowest, 50)}
    display = displays.TrainingCurveDisplay(curves).plot()
    display.figure_.canvas.draw()
    labels = display.ax_.get_yticklabels(minor=True)
    assert ("0.5" in {label.get_text() for label in labels}) == numbers


def test_components_as_images(cae):
    display = displays.ComponentsDisplay.from_estimator(cae, image_shape=SHAPE)
    (artist,) = display.ax_.get_images()
    mosaic = drawn(artist)
    # Five filters in rows of three, one pixel apart.
    assert mosaic.shape == (2 * 3 - 1, 3 * 5 - 1)
    for i, component in enumerate(cae.components_):
        top, left = 3 * (i // 3), 5 * (i % 3)
        np.testing.assert_array_equal(
            mosaic[top : top + 2, left : left + 4], component.reshape(SHAPE)
        )
    assert np.isfinite(mosaic).sum() == cae.components_.size
    low, high = artist.get_clim()
    assert low == -high
    assert 0 < high <= np.abs(cae.components_).max()
    assert display.colorbar_.ax.get_ylabel() == "weight"
    assert not [label.get_text() for label in display.ax_.get_xticklabels()]

    display = displays.ComponentsDisplay.from_estimator(
        cae, image_shape=SHAPE, indices=[4, 1], n_columns=1
    )
    mosaic = drawn(display.ax_.get_images()[0])
    # Their numbers stand in a free row above each.
    assert mosaic.shape == (2 * 4 - 1, 4)
    np.testing.assert_array_equal(mosaic[1:3].ravel(), cae.components_[4])
    np.testing.assert_array_equal(mosaic[5:].ravel(), cae.components_[1])
    numbers = [(text.get_text(), text.get_position()) for text in display.ax_.texts]
    assert numbers == [("4", (1.5, -0.5)), ("1", (1.5, 3.5))]


def test_components_as_bars(make, X):
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    pd = pytest.importorskip("pandas")
    cae = make().fit(pd.DataFrame(X, columns=list("abcdefgh")))
    display = displays.ComponentsDisplay.from_estimator(cae, indices=[3, 0])
    components = cae.components_[[3, 0]]
    (bars,) = [c for c in display.ax_.collections if isinstance(c, PolyCollection)]
    colors = bars.get_facecolors().reshape(2, 8, 4)
    bars = np.reshape(bars.get_paths(), (2, 8))
    scale = 0.45 / np.abs(components).max()
    for i, j in np.ndindex(2, 8):
        ends = sorted([i, i + scale * components[i, j]])
        box = bars[i, j].get_extents()
        np.testing.assert_allclose([box.x0, box.x1], ends, rtol=1e-6)
        assert box.y0 < j < box.y1
        expected = to_rgba("C3" if components[i, j] > 0 else "C0")
        np.testing.assert_array_equal(colors[i, j], expected)
    labels = [
        [label.get_text() for label in axis.get_ticklabels()]
        for axis in [display.ax_.xaxis, display.ax_.yaxis]
    ]
    assert labels == [["3", "0"], list("abcdefgh")]
    assert f"{np.abs(components).max():.2g}" in display.ax_.get_xlabel()

    nameless = displays.ComponentsDisplay.from_estimator(make().fit(X))
    labels = [label.get_text() for label in nameless.ax_.get_yticklabels()]
    assert labels == [f"x{i}" for i in range(8)]
    labels = [label.get_text() for label in nameless.ax_.get_xticklabels()]
    assert labels == list("01234")


def test_bars_of_many_units_and_features(make):
    X = np.random.default_rng(0).normal(size=(100, 50))
    cae = make(n_hidden=200).fit(X)
    display = displays.ComponentsDisplay.from_estimator(cae)
    norms = np.linalg.norm(cae.components_, axis=1)
    largest = np.sort(norms.argsort()[-10:])
    np.testing.assert_array_equal(display.indices, largest)
    np.testing.assert_array_equal(display.components, cae.components_[largest])
    features = np.abs(display.components).max(axis=0).argsort()[-30:]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [f"x{i}" for i in np.sort(features)]
    assert "30 of 50 features" in display.ax_.get_ylabel()

    every = displays.ComponentsDisplay.from_estimator(cae, indices=slice(None))
    assert len(every.components) == 200
    labels = [label.get_text() for label in every.ax_.get_xticklabels()]
    assert labels == [str(i) for i in range(0, 200, 8)]
    for shown in (display, every):
        assert max(shown.figure_.get_size_inches()) <= 10
        assert len(shown.ax_.get_children()) < 20
    assert displays.ComponentsDisplay(cae.components_).plot().ax_.get_yticklabels()


def test_indices_of_components(cae):
    for indices, expected in [
        ([4, 1], [4, 1]),
        (np.array([-1, 0]), [4, 0]),
        ([True, False, False, True, False], [0, 3]),
        (slice(1, None, 2), [1, 3]),
        (range(2), [0, 1]),
    ]:
        display = displays.ComponentsDisplay.from_estimator(cae, indices=indices)
        np.testing.assert_array_equal(display.indices, expected)
        np.testing.assert_array_equal(display.components, cae.components_[expected])


@pytest.mark.parametrize(
    "indices",
    [
        *(3, "all", [], [5], [-6], [0.5], ["a"], [[0], [1]], [[0], [1, 2]]),
        *([True], [False] * 5, slice(0), slice(0.5)),
    ],
    ids=str,
)
def test_indices_must_select_components(indices, cae, pyplot):
    message = r"indices must be .* \[-5, 5\), a mask of 5 bools, or a slice.* Got"
    with pytest.raises(ValueError, match=message):
        displays.ComponentsDisplay.from_estimator(cae, indices=indices)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("n_columns", [0, -3, 1.5])
def test_number_of_columns_must_be_positive(n_columns, cae, X, pyplot):
    arguments = {"image_shape": SHAPE, "n_columns": n_columns}
    with pytest.raises(ValueError, match=r"'n_columns' parameter .* \[1, inf\)"):
        displays.ComponentsDisplay.from_estimator(cae, **arguments)
    with pytest.raises(ValueError, match=r"'n_columns' parameter .* \[1, inf\)"):
        displays.ReconstructionDisplay.from_estimator(cae, X, **arguments)
    assert not pyplot.get_fignums()


def test_rows_are_no_longer_than_needed(cae):
    display = displays.ComponentsDisplay.from_estimator(
        cae, image_shape=SHAPE, n_columns=100
    )
    assert drawn(display.ax_.get_images()[0]).shape == (2, 5 * 5 - 1)


def test_reconstructions_are_below_their_inputs(cae, X):
    display = displays.ReconstructionDisplay.from_estimator(
        cae, X[:5], image_shape=SHAPE
    )
    (artist,) = display.ax_.get_images()
    mosaic = drawn(artist)
    expected = cae.inverse_transform(cae.transform(X[:5]))
    for i in range(5):
        columns = slice(5 * i, 5 * i + 4)
        np.testing.assert_array_equal(mosaic[:2, columns].ravel(), X[i])
        np.testing.assert_allclose(mosaic[3:, columns].ravel(), expected[i])
    assert artist.get_clim() == (X[:5].min(), X[:5].max())
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["input", "reconstruction"]


def test_rows_of_many_reconstructions(pyplot):
    inputs = np.arange(5 * 8.0).reshape(5, *SHAPE)
    display = displays.ReconstructionDisplay(inputs, -inputs).plot(n_columns=2)
    (artist,) = display.ax_.get_images()
    mosaic = drawn(artist)
    # Three rows of pairs, and a pixel between any two images.
    assert mosaic.shape == (3 * 6 - 1, 2 * 5 - 1)
    for i in range(5):
        top, left = 6 * (i // 2), 5 * (i % 2)
        pair = mosaic[top : top + 5, left : left + 4]
        np.testing.assert_array_equal(pair[:2], inputs[i])
        np.testing.assert_array_equal(pair[3:], -inputs[i])
    assert np.isfinite(mosaic).sum() == 2 * inputs.size
    np.testing.assert_array_equal(
        display.ax_.get_yticks(), [0.5, 3.5, 6.5, 9.5, 12.5, 15.5]
    )
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == 3 * ["input", "reconstruction"]
    # Rows are as long as a page is wide.
    many = np.linspace(0, 1, 40 * 64).reshape(40, 8, 8)
    display = displays.ReconstructionDisplay(many, many).plot()
    (artist,) = display.ax_.get_images()
    assert drawn(artist).shape == (4 * 18 - 1, 10 * 9 - 1)
    assert display.figure_.get_size_inches()[0] < 11


TABLES = [
    displays.ReconstructionDisplay,
    displays.SamplingDisplay,
    displays.TangentDisplay,
]


@pytest.mark.parametrize("Display", TABLES)
def test_rows_of_tables(Display, make, X, pyplot):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    cae = make().fit(frame)
    if Display is displays.ReconstructionDisplay:
        display = Display.from_estimator(cae, frame[:3])
        decoded = cae.inverse_transform(cae.transform(frame[:3]))
        expected, names = [X[:3], decoded], ["input", "reconstruction"]
    elif Display is displays.SamplingDisplay:
        arguments = {"n_steps": 2, "sigma": 0.1, "random_state": 0}
        display = Display.from_estimator(cae, frame[:3], **arguments)
        path = sampling.sample(cae, frame[:3], return_path=True, **arguments)
        expected, names = path.swapaxes(0, 1), ["step 0", "step 1", "step 2"]
    else:
        display = Display.from_estimator(cae, frame[:3], n_components=2)
        bases = geometry.tangent_bases(cae, frame[:3], 2)
        expected = [X[:3], *bases.swapaxes(0, 1)]
        names = ["sample", "tangent 1", "tangent 2"]
    layers = [drawn(artist) for artist in display.ax_.get_images()]
    shown = np.nansum(layers, axis=0)
    n = len(names)
    assert shown.shape == (3 * (n + 1) - 1, 8)
    for i, j in np.ndindex(3, n):
        np.testing.assert_allclose(shown[(n + 1) * i + j], expected[j][i], atol=1e-12)
    # A free row between two samples.
    assert np.isnan(layers)[:, n :: n + 1].all()
    np.testing.assert_allclose(
        display.ax_.get_yticks(), np.add.outer((n + 1) * np.arange(3), range(n)).ravel()
    )
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == 3 * names
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == list("abcdefgh")
    # Rows are high enough for their names, and fill whatever axes they are given.
    display.figure_.canvas.draw()
    boxes = [t.get_window_extent() for t in display.ax_.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    _, ax = pyplot.subplots(figsize=(3, 5))
    before = ax.get_window_extent().bounds
    display.plot(ax).figure_.canvas.draw()
    assert ax.get_window_extent().bounds == pytest.approx(before)


def test_columns_of_tables_without_names():
    inputs = np.linspace(0, 1, 2 * 100).reshape(2, 100)
    display = displays.ReconstructionDisplay(inputs, inputs).plot()
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == [str(i) for i in range(0, 100, 3)]
    assert display.colorbar_.extend == "neither"
    assert max(display.figure_.get_size_inches()) < 13


@pytest.mark.parametrize("Display", TABLES)
@pytest.mark.parametrize("shape", [None, SHAPE], ids=["table", "images"])
def test_only_the_first_samples_are_shown(shape, Display, cae, X, pyplot):
    arguments = {"image_shape": shape}
    if Display is displays.TangentDisplay:
        arguments["n_components"] = 2
    elif Display is displays.SamplingDisplay:
        arguments["n_steps"] = 1

    def shown(X, **kwargs):
        display = Display.from_estimator(cae, X, **arguments | kwargs)
        first = next(iter(vars(display).values()))
        pyplot.close(display.figure_)
        rows = first[:, 0] if Display is displays.SamplingDisplay else first
        return rows.reshape(len(rows), -1)

    np.testing.assert_array_equal(shown(X), X[:30])
    np.testing.assert_array_equal(shown(X, max_samples=None), X)
    np.testing.assert_array_equal(shown(X[:2], max_samples=7), X[:2])
    others = [X.tolist(), csr_array(X), coo_array(X), torch.tensor(X)]
    if importlib.util.find_spec("pandas"):
        import pandas as pd

        others.append(pd.DataFrame(X, index=np.arange(60.0)[::-1]))
    for other in others:
        np.testing.assert_array_equal(shown(other, max_samples=3), X[:3])
    for invalid in (0, 1.5):
        with pytest.raises(ValueError, match="'max_samples' parameter"):
            Display.from_estimator(cae, X, max_samples=invalid)


@pytest.mark.parametrize("layout", [None, "constrained", "compressed", "tight"])
@pytest.mark.parametrize("figsize", [(3, 5), (9, 2)])
def test_colour_bars_stand_beside_the_images(layout, figsize, cae, X, pyplot):
    tangents = displays.TangentDisplay.from_estimator(
        cae, **DISPLAYS[displays.TangentDisplay](X[:2])
    )
    inputs = np.linspace(0, 1, 16).reshape(2, *SHAPE)
    for display in (tangents, displays.ReconstructionDisplay(inputs, -inputs)):
        figure, ax = pyplot.subplots(figsize=figsize, layout=layout)
        display.plot(ax)
        figure.canvas.draw()
        images = ax.get_window_extent()
        bar_box = display.colorbar_.ax.get_window_extent()
        middle = (bar_box.y0 + bar_box.y1) / 2
        assert middle == pytest.approx(
            (images.y0 + images.y1) / 2, abs=0.1 * images.height
        )
        assert 0.75 * images.height < bar_box.height < 1.01 * images.height
        assert images.x1 < bar_box.x0 < images.x1 + 0.05 * figure.bbox.width


def test_values_off_the_scale_of_the_inputs():
    inputs = np.linspace(0, 1, 8).reshape(1, *SHAPE)
    for low, high, extend in [
        (0, 1, None),
        (-0.001, 1.001, None),  # not to be seen
        (-0.5, 1, "min"),
        (0, 1.5, "max"),
        (-0.5, 1.5, "both"),
    ]:
        others = low + (high - low) * inputs
        paths = np.stack([inputs, others], axis=1)
        for display in [
            displays.ReconstructionDisplay(inputs, others).plot(),
            displays.SamplingDisplay(paths, np.arange(2)).plot(),
        ]:
            (artist,) = display.ax_.get_images()
            assert artist.get_clim() == (0, 1)
            if extend is None:
                assert display.colorbar_ is None
            else:
                assert display.colorbar_.extend == extend
                label = display.colorbar_.ax.get_ylabel().replace("\N{MINUS SIGN}", "-")
                assert label == f"value\n({low:.2g} to {high:.2g})"


def test_singular_values(cae, X):
    display = displays.SingularValueDisplay.from_estimator(
        cae, X, quantiles=(0.25, 0.75), color="C3"
    )
    values = geometry.singular_values(cae, X)
    np.testing.assert_array_equal(display.singular_values, values)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 6))
    np.testing.assert_allclose(display.line_.get_ydata(), values.mean(axis=0))
    assert display.line_.get_color() == "C3"
    edges = display.band_.get_paths()[0].vertices
    for quantile in (0.25, 0.75):
        for point in enumerate(np.quantile(values, quantile, axis=0), start=1):
            assert np.isclose(edges, point).all(axis=1).any()
    assert "25% to 75%" in display.ax_.get_ylabel()
    with pytest.raises(ValueError, match="range"):
        display.plot(quantiles=(0.1, 90))


def test_contraction_ratios(cae, X):
    display = displays.ContractionRatioDisplay.from_estimator(
        cae, X, radii=[0.1, 1], n_directions=3, random_state=0
    )
    expected = geometry.contraction_ratio(
        cae, X, [0.1, 1], n_directions=3, random_state=0
    )
    np.testing.assert_array_equal(display.line_.get_xdata(), [0.1, 1])
    np.testing.assert_array_equal(display.line_.get_ydata(), expected)
    display = displays.ContractionRatioDisplay.from_estimator(cae, X)
    distances = np.linalg.norm(X - X.mean(axis=0), axis=1)
    spread = np.sqrt((distances**2).mean())
    assert display.radii[[0, -1]] == pytest.approx([0.01 * spread, 3 * spread])
    with pytest.raises(ValueError, match="NaN"):
        displays.ContractionRatioDisplay.from_estimator(cae, [[np.nan] * 8])
    # 0.1 isn't the exact mean of its copies.
    for rows in (X[:1], np.full((7, 8), 0.1)):
        with pytest.raises(ValueError, match=r"radii must be given .* no spread"):
            displays.ContractionRatioDisplay.from_estimator(cae, rows)
        displays.ContractionRatioDisplay.from_estimator(cae, rows, radii=[1])


@pytest.mark.parametrize(
    "Display", [displays.SingularValueDisplay, displays.ContractionRatioDisplay]
)
def test_named_estimators_share_axes(Display, cae, X):
    unnamed = Display.from_estimator(cae, X)
    assert unnamed.ax_.get_legend() is None
    assert Display.from_estimator(cae, X, label="a").ax_.get_legend() is not None
    first = Display.from_estimator(cae, X, name="first")
    tall = Display.from_estimator(cae, X, name="second", ax=first.ax_)
    texts = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert texts == ["first", "second"]
    # Later curves are seen as a whole.
    if Display is displays.ContractionRatioDisplay:
        tall.ratios = 10 * tall.ratios
    else:
        tall.singular_values = 10 * tall.singular_values
    tall.plot(first.ax_)
    first.figure_.canvas.draw()
    assert first.ax_.get_ylim()[1] > tall.line_.get_ydata().max()


def test_walks(cae, X):
    display = displays.SamplingDisplay.from_estimator(
        cae, X[:3], image_shape=SHAPE, n_steps=7, every=3, sigma=2.0, random_state=0
    )
    path = sampling.sample(
        cae, X[:3], n_steps=7, sigma=2.0, return_path=True, random_state=0
    )
    mosaic = drawn(display.ax_.get_images()[0])
    steps = [0, 3, 6, 7]
    assert mosaic.shape == (3 * 3 - 1, 4 * 5 - 1)
    for i, j in np.ndindex(3, 4):
        image = mosaic[3 * i : 3 * i + 2, 5 * j : 5 * j + 4]
        np.testing.assert_array_equal(image.ravel(), path[i, steps[j]])
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["0", "3", "6", "7"]
    np.testing.assert_array_equal(display.ax_.get_xticks(), [1.5, 6.5, 11.5, 16.5])
    for n_steps, every, steps in [(4, 2, [0, 2, 4]), (1, 1, [0, 1]), (2, 9, [0, 2])]:
        display = displays.SamplingDisplay.from_estimator(
            cae, X[:3], image_shape=SHAPE, n_steps=n_steps, every=every
        )
        assert display.steps.tolist() == steps
    for name, value in [("every", 0), ("n_steps", 0), ("sigma", -1)]:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            displays.SamplingDisplay.from_estimator(
                cae, X, image_shape=SHAPE, **{name: value}
            )


@pytest.mark.parametrize("sizes", [100, (100, 30)], ids=str)
def test_walks_keep_the_variance_and_the_range_of_the_data(sizes, digits):
    X, _ = digits
    # With a small lam reconstruction alone gains variance, whatever the noise.
    cae = ContractiveAutoencoderTransformer(sizes, lam=1, random_state=0).fit(X)
    X = X[::20]
    variance = X.var(axis=0).sum()
    # The decoder is linear: unbounded walks leave the data.
    far = sampling.sample(cae, X, random_state=0)
    assert far.var(axis=0).sum() > 4 * variance
    display = displays.SamplingDisplay.from_estimator(
        cae, X, image_shape=(8, 8), max_samples=None, random_state=0
    )
    np.testing.assert_array_equal(display.paths[:, 0].reshape(len(X), 64), X)
    assert display.paths.min() == 0
    assert display.paths.max() == 1
    assert display.colorbar_ is None
    variances = display.paths.var(axis=0).sum(axis=(1, 2)) / variance
    assert all((variances > 0.75) & (variances < 1.3))
    # They move.
    moves = np.diff(display.paths, axis=1)
    assert np.square(moves).sum(axis=(2, 3)).mean(axis=0).min() > 0.02 * variance


def test_walks_from_one_row(cae, X):
    for rows in (X[:1], X[[0, 0, 0]]):
        display = displays.SamplingDisplay.from_estimator(cae, rows, random_state=0)
        again = displays.SamplingDisplay.from_estimator(cae, rows, random_state=0)
        np.testing.assert_array_equal(display.paths, again.paths)
        assert np.ptp(display.paths, axis=1).max() > 0
        assert display.paths.min() >= rows.min()
        assert display.paths.max() <= rows.max()


def test_tangents(cae, X):
    display = displays.TangentDisplay.from_estimator(
        cae, X[:3], image_shape=SHAPE, n_components=2
    )
    bases = geometry.tangent_bases(cae, X[:3], 2)
    samples, tangents = map(drawn, display.ax_.get_images())
    # Two layers: where one has an image, the other is transparent.
    assert not (np.isfinite(samples) & np.isfinite(tangents)).any()
    for i in range(3):
        rows = slice(3 * i, 3 * i + 2)
        np.testing.assert_array_equal(samples[rows, :4].ravel(), X[i])
        for j in range(2):
            image = tangents[rows, 5 * (j + 1) : 5 * (j + 1) + 4]
            np.testing.assert_array_equal(image.ravel(), bases[i, j])
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["sample", "1", "2"]
    with pytest.raises(ValueError, match="'n_components' parameter"):
        displays.TangentDisplay.from_estimator(
            cae, X, image_shape=SHAPE, n_components=0
        )
    with pytest.raises(ValueError, match="at most 5"):
        displays.TangentDisplay.from_estimator(cae, X, image_shape=SHAPE)


def test_bars_of_weights_that_are_all_zero(pyplot):
    display = displays.ComponentsDisplay(np.zeros((2, 3))).plot()
    bars = display.ax_.collections[0]
    assert all(np.ptp(path.vertices[:, 0]) == 0 for path in bars.get_paths())


def test_a_single_epoch_is_a_point(pyplot):
    display = displays.TrainingCurveDisplay(
        {"objective": [2.0], "reconstruction": [1.0], "curvature": [np.nan]}
    ).plot()
    assert [line.get_marker() for line in display.lines_] == ["o", "o"]
    assert len(display.ax_.get_legend().get_texts()) == 2


def test_curves_that_end_at_zero(pyplot):
    _, axes = pyplot.subplots(1, 3)
    for values, ax in zip(([1, 0.5, 0], [1, 0, 1], [0, 0]), axes, strict=True):
        display = displays.TrainingCurveDisplay({"objective": values}).plot(ax)
        assert len(display.lines_) == any(values)
        display.figure_.canvas.draw()
        low, high = ax.get_ylim()
        assert 0 < low < high < np.inf


def test_ticks_of_epochs_and_indices_are_whole_numbers(pyplot):
    for n in (1, 3):
        curves = displays.TrainingCurveDisplay({"objective": np.ones(n)}).plot()
        spectrum = displays.SingularValueDisplay(np.ones((2, n))).plot()
        # A single value is seen too.
        assert spectrum.line_.get_marker() == ("o" if n == 1 else "None")
        for display in (curves, spectrum):
            ticks = display.ax_.get_xticks()
            assert all(tick == int(tick) for tick in ticks)
            assert display.ax_.get_xlim()[0] > 0  # There is none before the first.


@pytest.mark.parametrize("quantiles", [(10, 90), (0.9, 0.1), (0.5,), 0.5, (0, np.nan)])
def test_quantiles(quantiles, pyplot):
    display = displays.SingularValueDisplay(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"quantiles must be two floats in .* Got"):
        display.plot(quantiles=quantiles)
