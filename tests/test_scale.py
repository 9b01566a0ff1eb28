"""Searches on a Dask cluster, transforms of Dask collections, files of rows."""

import io
import re
import runpy
import subprocess
import sys
import textwrap
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from callbacks import HAS_CALLBACKS

from skcae import ContractiveAutoencoderTransformer

DOCS = Path(__file__).parents[1] / "docs"


def run_block(word, names):
    """Run the code of the guide that has the word; return all names after it."""
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.rst"))
    blocks = re.findall(r"code-block:: python\n\n((?: {4}.*\n|\n)+)", pages)
    (block,) = [block for block in blocks if word in block]
    names = {"np": np, **names}
    exec(textwrap.dedent(block), names)
    return names


# Searches


def run(script):
    """Run a script in a process of its own: Dask changes settings of the whole one."""
    command = [sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_searches_on_a_cluster():
    pytest.importorskip("distributed")
    output = run(Path(__file__).with_name("search_on_a_cluster.py"))
    of_grid, of_halving, rest = re.split(
        r"^\w+SearchCV: the same\n", output, flags=re.M
    )
    assert not rest
    if HAS_CALLBACKS:
        assert of_grid.count("ContractiveAutoencoderTransformer - fit") == 4 * 3 + 1
        # HalvingGridSearchCV of scikit-learn 1.9 shows the last fit only.
        assert "ContractiveAutoencoderTransformer - fit" in of_halving


def test_the_recipe_of_a_search():
    pytest.importorskip("distributed")
    progress, fits, best = run(DOCS / "dask_search.py").splitlines()
    assert progress.startswith("Progress: http")
    assert fits == "Fitting 3 folds for each of 4 candidates, totalling 12 fits"
    best, score = re.fullmatch(r"({.*}) ([\d.]+)", best).groups()
    assert best == "{'cae__lam': 1, 'cae__n_hidden': 32}"
    assert float(score) > 0.9


# Transforms


@pytest.mark.parametrize("columns", [64, 32])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("n_hidden", [5, (7, 5)])
def test_the_recipe_for_a_dask_array(n_hidden, dtype, columns, make, digits):
    da = pytest.importorskip("dask.array")
    X = (16 * digits[0]).astype(dtype)
    cae = make(n_hidden=n_hidden).fit(digits[0])
    array = da.from_array(X, chunks=(500, columns))
    features = run_block("map_blocks", {"cae": cae, "array": array})["features"]
    assert features.shape == (1797, 5)
    result = features.compute(scheduler="threads")
    assert features.dtype == result.dtype == np.float32
    expected = cae.transform(X.astype(np.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_the_recipe_for_a_dask_frame(make, digits):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(digits[0], columns=[f"pixel {i}" for i in range(64)])
    X.index += 7
    cae = make().fit(X)
    frame = dd.from_pandas(X, npartitions=3)
    features = run_block("map_partitions", {"cae": cae, "frame": frame})["features"]
    assert list(features.columns) == list(cae.get_feature_names_out())
    pd.testing.assert_frame_equal(features.compute(), cae.transform(X))


# Files


def test_the_recipe_for_pixels(digits, tmp_path, monkeypatch):
    X = (255 * digits[0]).astype(np.uint8)
    np.save(tmp_path / "pixels.npy", X)
    monkeypatch.chdir(tmp_path)

    def make():
        return ContractiveAutoencoderTransformer(tol=0.01, random_state=0)

    names = {"ContractiveAutoencoderTransformer": make}
    cae = run_block("open_memmap", names)["cae"]
    scaled = np.load("scaled.npy")
    np.testing.assert_allclose(scaled, X / 255, rtol=1e-6)
    assert cae.history_["reconstruction"][-1] < 0.5 * scaled.var(axis=0).sum()


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
        batch_size=256, max_iter=10, tol=0, learning_rate_init=0.01, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(rows)
    assert model.score(rows) > 1.2 * other.score(rows)
