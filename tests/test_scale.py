"""Searches on a Dask cluster, transforms of Dask collections, Parquet files."""

import io
import re
import runpy
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import joblib
import numpy as np
import pytest
from callbacks import needs_callbacks, other_steps_lack_callbacks
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

DOCS = Path(__file__).parents[1] / "docs"
GRID = {"cae__lam": [0, 1], "cae__n_hidden": [4, 16]}


@pytest.fixture(scope="module")
def model():
    return Pipeline(
        [
            ("scale", MinMaxScaler()),
            ("cae", ContractiveAutoencoderTransformer(tol=0.05, random_state=0)),
            ("rescale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )


# Searches


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.Client(processes=True, **options) as client:
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        yield client


@pytest.mark.parametrize("kind", [GridSearchCV, HalvingGridSearchCV])
def test_a_search_on_a_cluster(kind, model, digits, cluster):
    X, y = digits[0][:400], digits[1][:400]
    search = kind(model, GRID, cv=3)
    if kind is HalvingGridSearchCV:
        search.set_params(random_state=0, min_resources=100)
    expected = kind(**search.get_params(deep=False)).fit(X, y)
    with joblib.parallel_config("dask"):
        search.fit(X, y)
    for name in ("mean_test_score", "param_cae__lam", "param_cae__n_hidden"):
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))
    assert search.best_params_["cae__n_hidden"] == 16


@needs_callbacks
@other_steps_lack_callbacks
def test_the_progress_of_a_search_on_a_cluster(model, digits, cluster, capfd):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    X, y = digits[0][:100], digits[1][:100]
    search = GridSearchCV(model, {"cae__lam": [0, 1]}, cv=2, refit=False, verbose=1)
    with joblib.parallel_config("dask"):
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    output = capfd.readouterr().out
    assert "Fitting 2 folds for each of 2 candidates, totalling 4 fits" in output
    assert output.count("ContractiveAu") == 4


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning")
def test_the_recipe_of_a_search(capsys):
    pytest.importorskip("distributed")
    # Its processes import the script by name, which is its path here.
    recipe = runpy.run_path(str(DOCS / "dask_search.py"), run_name="recipe")
    recipe["grid"].update(cae__lam=[1], cae__n_hidden=[4, 16])
    recipe["main"]()
    output = capsys.readouterr().out
    assert "Progress: http" in output
    best, score = re.search(r"({.*}) ([\d.]+)$", output.strip()).groups()
    assert best == "{'cae__lam': 1, 'cae__n_hidden': 16}"
    assert float(score) > 0.8


# Transforms


def test_transform_of_a_dask_array(make, digits):
    da = pytest.importorskip("dask.array")
    X = digits[0].astype(np.float32)
    cae = make().fit(X)
    rows = da.from_array(X, chunks=(500, 64))
    features = rows.map_blocks(
        cae.transform, chunks=(rows.chunks[0], (5,)), dtype=rows.dtype
    )
    assert features.shape == (1797, 5)
    np.testing.assert_array_equal(
        features.compute(scheduler="threads"), cae.transform(X), strict=True
    )


def test_transform_of_a_dask_frame(make, digits):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(digits[0], columns=[f"pixel {i}" for i in range(64)])
    X.index += 7
    cae = make().fit(X).set_output(transform="pandas")
    rows = dd.from_pandas(X, npartitions=3)
    features = rows.map_partitions(cae.transform)
    assert list(features.columns) == list(cae.get_feature_names_out())
    pd.testing.assert_frame_equal(features.compute(), cae.transform(X))


# Parquet


def test_the_recipe_for_parquet(digits, tmp_path, monkeypatch):
    pd = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    X = 16 * digits[0]
    (tmp_path / "rows").mkdir()
    for number, part in enumerate(np.array_split(X, 2)):
        table = pyarrow.table({f"pixel {i}": part[:, i] for i in range(64)})
        path = tmp_path / "rows" / f"{number}.parquet"
        parquet.write_table(table, path, row_group_size=450)
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as output:
        recipe = runpy.run_path(str(DOCS / "parquet.py"))
    model, scaler = recipe["model"], recipe["scaler"]
    assert len(recipe["row_groups"]) == 4
    assert model.n_iter_ == 10 * 4
    np.testing.assert_array_equal(scaler.data_max_, X.max(axis=0))

    losses = [float(line) for line in re.findall(r"= ([\d.]+)", output.getvalue())]
    assert len(losses) == 10
    assert losses == sorted(losses, reverse=True)
    # As good as so many epochs on the array.
    pixels = pd.DataFrame(X, columns=scaler.feature_names_in_, dtype=np.float32)
    rows = scaler.transform(pixels)
    other = ContractiveAutoencoderTransformer(
        batch_size=256, max_iter=10, tol=0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(rows)
    assert model.score(rows) > 1.2 * other.score(rows)
