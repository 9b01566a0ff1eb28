"""Searches in two worker processes of Dask, and in this one: are they the same?"""

import os

import joblib
import numpy as np
from callbacks import HAS_CALLBACKS
from dask.distributed import Client, get_task_stream
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer


def main():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    model = Pipeline(
        [
            ("scale", MinMaxScaler()),
            ("cae", ContractiveAutoencoderTransformer(tol=0.2, random_state=0)),
            ("rescale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )
    grid = {"cae__lam": [0, 1], "cae__n_hidden": [4, 16]}
    searches = [
        GridSearchCV(model, grid, cv=3),
        HalvingGridSearchCV(model, grid, cv=3, min_resources=100, random_state=0),
    ]
    expected = [clone(search).fit(X, y) for search in searches]
    if HAS_CALLBACKS:
        from sklearn.callback import ProgressBar

        for search in searches:
            search.set_callbacks(ProgressBar(max_propagation_depth=None))
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(**options) as client, joblib.parallel_config("dask"):
        processes = client.run(os.getpid)
        assert len({os.getpid(), *processes.values()}) == 3
        for search, here in zip(searches, expected, strict=True):
            with get_task_stream(client) as tasks:
                search.fit(X, y)
            # Both have had something to do.
            assert {task["worker"] for task in tasks.data} == set(processes)
            for name in ("mean_test_score", "param_cae__lam", "param_cae__n_hidden"):
                np.testing.assert_array_equal(
                    search.cv_results_[name], here.cv_results_[name]
                )
            np.testing.assert_array_equal(search.predict(X), here.predict(X))
            assert search.best_params_["cae__n_hidden"] == 16
            print(f"{type(search).__name__}: the same")


if __name__ == "__main__":
    main()
