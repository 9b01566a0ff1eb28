"""
A table of unlike columns
=========================

Numbers, categories and gaps: each kind of column needs a step of its own before the
autoencoder, which a `~sklearn.compose.ColumnTransformer` puts together. The cars here
are made up.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from skcae import ContractiveAutoencoderDetector, ContractiveAutoencoderTransformer
from skcae.displays import FeatureErrorDisplay

rng = np.random.default_rng(0)
n_cars = 800
size = rng.normal(size=n_cars)
age = rng.gamma(2, 3, n_cars)
fuel = np.where(rng.random(n_cars) < 0.2 + 0.1 * (age < 4), "electric", "petrol")
fuel[rng.random(n_cars) < 0.3 * (size > 0)] = "diesel"
electric = fuel == "electric"
weight = 1400 + 250 * size + 300 * electric + rng.normal(0, 60, n_cars)
power = np.exp(4.6 + 0.4 * size + 0.3 * electric + rng.normal(0, 0.15, n_cars))
mileage = 12_000 * age * np.exp(rng.normal(0, 0.3, n_cars))
maker = rng.choice(["Aster", "Borealis", "Corvina", "Dahlia"], n_cars)
price = np.exp(
    9.8 + 0.35 * size + 0.25 * electric - 0.1 * age - 2e-6 * mileage
    + 0.2 * (maker == "Aster") + rng.normal(0, 0.1, n_cars)
)  # fmt: skip
cars = pd.DataFrame(
    {
        "weight": weight.round(),
        "power": power.round(),
        "age": age.round(1),
        "mileage": mileage.round(-2),
        "fuel": fuel,
        "maker": maker,
    },
    index=[f"car {i}" for i in range(n_cars)],
)
cars.loc[rng.random(n_cars) < 0.1, "power"] = np.nan
print(cars.head())

# %%
# Columns with long tails are made normal by their ranks, categories become columns of
# zeros and ones, and gaps the median, with a column that says where they were. All
# columns then have about the same scale, so that none of them dominates the loss.

numbers = ["weight", "power", "age", "mileage"]
columns = make_column_transformer(
    (
        make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True),
            QuantileTransformer(
                n_quantiles=200, output_distribution="normal", random_state=0
            ),
            StandardScaler(),
        ),
        numbers,
    ),
    (OneHotEncoder(sparse_output=False), ["fuel", "maker"]),
    verbose_feature_names_out=False,
).set_output(transform="pandas")
print(columns.fit_transform(cars).iloc[:3].round(2).T)

# %%
# Features before a ridge regression for the logarithm of the price. They aren't linear
# in the columns, so that the regression can follow a price that isn't either. Boosted
# trees need none of this, neither scaling nor features.

models = {
    "columns": make_pipeline(columns, RidgeCV()),
    "contractive": make_pipeline(
        columns,
        ContractiveAutoencoderTransformer(random_state=0),
        StandardScaler(),
        RidgeCV(),
    ),
    "boosted trees": make_pipeline(
        columns, HistGradientBoostingRegressor(random_state=0)
    ),
}
for name, model in models.items():
    scores = cross_val_score(model, cars, np.log(price))
    print(f"{name:<14} R² {scores.mean():.3f}")

# %%
# The detector learns how the columns depend on each other. Three cars get a value that
# doesn't fit their others.

damaged = cars.copy()
damaged.loc["car 3", "weight"] = cars["weight"].max()
damaged.loc["car 5", "mileage"] = 500.0
damaged.loc["car 7", "power"] = 30.0
print(cars.loc[["car 3", "car 5", "car 7"]])
detector = make_pipeline(
    columns, ContractiveAutoencoderDetector(contamination=0.01, random_state=0)
).fit(cars)
scores = pd.Series(detector.score_samples(damaged), damaged.index)
print("rank of the three cars:")
print(scores.rank()[["car 3", "car 5", "car 7"]])
FeatureErrorDisplay.from_estimator(detector, damaged, max_samples=8)
plt.show()
