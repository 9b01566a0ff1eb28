"""Search for lam and n_hidden on the workers of a Dask cluster."""

import joblib
from dask.distributed import Client
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

model = Pipeline(
    [
        ("scale", MinMaxScaler()),
        ("cae", ContractiveAutoencoderTransformer(random_state=0)),
        ("rescale", StandardScaler()),
        ("classify", LogisticRegression()),
    ]
)
grid = {"cae__lam": [0.1, 1], "cae__n_hidden": [16, 32]}


def main():
    X, y = load_digits(return_X_y=True)
    # Processes on this machine; Client("scheduler:8786") is a cluster elsewhere.
    with Client(n_workers=2, threads_per_worker=1) as client:
        print("Progress:", client.dashboard_link)
        search = GridSearchCV(model, grid, cv=3, verbose=1)
        with joblib.parallel_config("dask"):
            search.fit(X, y)
    print(search.best_params_, search.best_score_)


if __name__ == "__main__":
    main()
