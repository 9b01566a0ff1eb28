"""
Tuning the contraction
======================

``lam`` and ``n_hidden`` are the parameters that matter. A grid search over a whole
pipeline finds them, in two processes, with the classifier's accuracy as the score.
``search.set_callbacks(ProgressBar(max_propagation_depth=None))`` would show each
candidate's fits, and their epochs, as they run.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skcae import ContractiveAutoencoderTransformer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.5, stratify=y, random_state=0
)
pipeline = Pipeline(
    [
        ("scale", MinMaxScaler()),
        ("cae", ContractiveAutoencoderTransformer(random_state=0)),
        ("rescale", StandardScaler()),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
)
search = GridSearchCV(
    pipeline,
    {"cae__lam": [0, 0.1, 1], "cae__n_hidden": [32, 64, 128]},
    cv=3,
    n_jobs=2,
).fit(X_train, y_train)

# %%
# Mean accuracy over the folds. Rows are ``lam``, columns ``n_hidden``.

scores = search.cv_results_["mean_test_score"].reshape(3, 3)
print(f"{'lam':<8}" + "".join(f"{n:<8}" for n in (32, 64, 128)))
for lam, row in zip((0, 0.1, 1), scores, strict=True):
    print(f"{lam:<8}" + "".join(f"{score:<8.3f}" for score in row))

figure, ax = plt.subplots(layout="constrained")
for n_hidden, column in zip((32, 64, 128), scores.T, strict=True):
    ax.plot(["0", "0.1", "1"], column, marker="o", label=f"n_hidden={n_hidden}")
ax.set(xlabel="lam", ylabel="mean accuracy over the folds")
ax.legend()

# %%
# What the search chose, on the digits that it did not see, beside the raw pixels.

print("chosen:", search.best_params_)
print(f"test accuracy: {search.score(X_test, y_test):.3f}")
raw = Pipeline([step for step in pipeline.steps if step[0] != "cae"])
print(f"raw pixels: {raw.fit(X_train, y_train).score(X_test, y_test):.3f}")
plt.show()
