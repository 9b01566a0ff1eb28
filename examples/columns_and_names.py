"""
Columns, names and reconstructions
==================================

The transformer beside others: in a `~sklearn.pipeline.FeatureUnion`, on some columns of
a DataFrame with a `~sklearn.compose.ColumnTransformer`, with named features out, and
back from the hidden representation to the data. It needs pandas and matplotlib.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import ComponentsDisplay

X, y = load_wine(return_X_y=True, as_frame=True)

# %%
# Learned features and principal components, side by side.

union = FeatureUnion(
    [
        ("cae", ContractiveAutoencoderTransformer(8, random_state=0)),
        ("pca", PCA(n_components=4)),
    ]
)
model = make_pipeline(MinMaxScaler(), union, StandardScaler(), LogisticRegression())
print(f"union: accuracy {cross_val_score(model, X, y).mean():.3f}")

# %%
# Features learned from some columns, the others as they are; a DataFrame comes out.

chemistry = ["total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"]
columns = ColumnTransformer(
    [
        (
            "phenols",
            make_pipeline(
                StandardScaler(), ContractiveAutoencoderTransformer(2, random_state=0)
            ),
            chemistry,
        )
    ],
    remainder="passthrough",
    verbose_feature_names_out=False,
).set_output(transform="pandas")
print(columns.fit_transform(X).iloc[:3, :5].round(3).T)

# %%
# Back from hidden representations to wines: what the model keeps of each column.

scaler = StandardScaler().set_output(transform="pandas")
X_scaled = scaler.fit_transform(X)
cae = ContractiveAutoencoderTransformer(8, lam=0.1, random_state=0).fit(X_scaled)
restored = cae.inverse_transform(cae.transform(X_scaled))
errors = np.mean((restored - X_scaled) ** 2, axis=0).sort_values()
print("kept best:", ", ".join(errors.index[:3]))
print("kept least:", ", ".join(errors.index[-3:]))

figure, ax = plt.subplots(layout="constrained")
ax.barh(errors.index, errors)
ax.set(xlabel="mean squared error, of a variance of 1")

# %%
# What each hidden unit looks at: its weights, by the names of the columns.

ComponentsDisplay.from_estimator(cae)

# %%
# Samples that the model reconstructs badly are unlike the rest.

print("most unusual rows:", np.argsort(cae.score_samples(X_scaled))[:3].tolist())
plt.show()
