"""
Text
====

Rows of TF-IDF are wide and sparse, and stay so. Here they are the docstrings of
installed packages, and the class to tell is the package: with features of few
dimensions, before a logistic regression and as what neighbours are looked for in.
"""

import inspect
import pkgutil
import warnings
from contextlib import suppress
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.displays import CodeDisplay


def docstrings(package):
    """Yield the docstrings of what the modules of a package define."""
    modules = [package]
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = found.name.rpartition(".")[2]
        if name.startswith("_") or name in ("tests", "testing", "conftest"):
            continue
        with suppress(ImportError):  # It may need what isn't installed.
            modules.append(import_module(found.name))
    for module in modules:
        for thing in vars(module).values():
            if inspect.isclass(thing) or inspect.isroutine(thing):
                yield inspect.getdoc(thing) or ""
            if inspect.isclass(thing):
                for method in vars(thing).values():
                    if inspect.isroutine(method):
                        yield inspect.getdoc(method) or ""


names = ["numpy", "scipy", "sklearn", "torch", "matplotlib"]
texts, labels = [], []
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for label, name in enumerate(names):
        found = {
            text for text in docstrings(import_module(name)) if len(text.split()) >= 20
        }
        texts += sorted(found)
        labels += [label] * len(found)
labels = np.array(labels)
vectorizer = TfidfVectorizer(min_df=2, stop_words="english", sublinear_tf=True)
train, test = train_test_split(
    np.arange(len(texts)), test_size=0.3, stratify=labels, random_state=0
)
X_train = vectorizer.fit_transform([texts[i] for i in train])
X_test = vectorizer.transform([texts[i] for i in test])
n_rows, n_features = X_train.shape
print(
    f"{n_rows} docstrings × {n_features} words, {X_train.nnz / n_rows:.0f} a docstring"
)

# %%
# Sixteen features each. The default settings need no scaler: the lengths of TF-IDF rows
# are 1 already.

models = {
    "TruncatedSVD": TruncatedSVD(16, random_state=0),
    "contractive": ContractiveAutoencoderTransformer(16, random_state=0),
}
for name, model in models.items():
    pipeline = make_pipeline(
        model, StandardScaler(), LogisticRegression(max_iter=1000)
    ).fit(X_train, labels[train])
    accuracy = pipeline.score(X_test, labels[test])
    print(f"{name:<14} accuracy {accuracy:.3f}")

# %%
# The words that each unit looks at: those of its largest weights.

cae = models["contractive"]
words = vectorizer.get_feature_names_out()
for unit in range(6):
    largest = np.argsort(-np.abs(cae.components_[unit]))[:8]
    print(f"unit {unit}:", ", ".join(words[largest]))

# %%
# The codes in the plane of their principal components.

CodeDisplay.from_estimator(cae, X_test, np.array(names)[labels[test]])
plt.show()
