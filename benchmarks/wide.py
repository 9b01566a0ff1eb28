"""Text and other wide tables: how long does a default fit take, and in how much memory?

    python benchmarks/wide.py

On one thread, in CPU seconds:

- TF-IDF and hashed rows of the docstrings of installed packages, beside TruncatedSVD
  with as many components: whole default fits, the part of held-out rows that is
  explained, and the accuracy of a logistic regression that tells the packages apart.
- Tables of fewer rows than features, beside PCA: the same, in the space that the rows
  span and in that of all features.
- Random sparse rows with a hundred entries each: an epoch, and the optimiser's part of
  it, by the number of features.
- Random sparse rows of a million features: the peak of the memory in a whole fit.
"""

import argparse
import ast
import importlib.util
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import report
import scipy.sparse
import torch
from contenders import fit_quietly
from features import explained, gene_like
from out_of_core import Peak, private_memory
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcae import ContractiveAutoencoderTransformer
from skcae.engine import training
from skcae.engine.network import Architecture
from skcae.engine.space import WHOLE

PACKAGES = ("sklearn", "scipy", "numpy", "torch", "joblib", "matplotlib", "pandas")


def docstrings(n_texts):
    """Return docstrings of the packages that are installed, and their packages."""
    texts, labels = [], []
    for label, name in enumerate(PACKAGES):
        spec = importlib.util.find_spec(name)
        for path in Path(spec.origin).parent.rglob("*.py") if spec else ():
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    text = ast.get_docstring(node)
                    if text and len(text) > 300:
                        texts.append(text)
                        labels.append(label)
    order = np.random.default_rng(0).permutation(len(texts))[:n_texts]
    return [texts[i] for i in order], np.array(labels)[order]


def timed(model, X):
    """Return the fitted model and its CPU seconds."""
    start = time.process_time()
    fit_quietly(model, X)
    return model, time.process_time() - start


def accuracy(model, X, y, held_out, y_held_out):
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    regression.fit(model.transform(X), y)
    return regression.score(model.transform(held_out), y_held_out)


def text(quick):
    """Yield the rows of the table of texts."""
    n_train = 400 if quick else 4000
    texts, y = docstrings(n_train * 5 // 4)
    for name, vectorizer in {
        "TF-IDF": TfidfVectorizer(min_df=2),
        "hashed": HashingVectorizer(n_features=2**17),
    }.items():
        X = scipy.sparse.csr_array(vectorizer.fit_transform(texts[:n_train]))
        held_out = scipy.sparse.csr_array(vectorizer.transform(texts[n_train:]))
        models = {"TruncatedSVD": TruncatedSVD(64, random_state=0)}
        for kind, parameters in {
            "default": {},
            "lam=0": {"lam": 0},
            "untied": {"tied_weights": False},
            "Adam": {"solver": "adam"},
        }.items():
            models[kind] = ContractiveAutoencoderTransformer(
                random_state=0, **parameters
            )
        first = None
        for kind, model in models.items():
            _, seconds = timed(model, X)
            first = first or seconds
            yield [
                f"{name}, {X.shape[0]:,} × {X.shape[1]:,}, {kind}",
                f"{seconds:.2f}",
                f"{seconds / first:.1f}",
                f"{explained(model, held_out.toarray(), X):.3f}",
                f"{accuracy(model, X, y[:n_train], held_out, y[n_train:]):.3f}",
            ]


def few_rows(quick):
    """Yield the rows of the table of tables with fewer rows than features."""
    for shape in ((60, 2000),) if quick else ((200, 20_000), (400, 20_000)):
        X, _ = gene_like(shape[0] + 100, shape[1])
        X = StandardScaler().fit_transform(X)
        X, held_out = X[:-100], X[-100:]
        pca, first = timed(PCA(min(64, len(X) - 1), random_state=0), X)
        name = f"{shape[0]} × {shape[1]:,}"
        yield [
            f"{name}, PCA",
            f"{first:.2f}",
            "1.0",
            f"{explained(pca, held_out, X):.3f}",
            "",
        ]
        choose_space = training.choose_space
        for kind, parameters in {
            "default": {},
            "untied": {"tied_weights": False},
            "default, in the space of all features": {},
        }.items():
            if "all" in kind:
                training.choose_space = lambda *args: WHOLE
            model = ContractiveAutoencoderTransformer(random_state=0, **parameters)
            _, seconds = timed(model, X)
            yield [
                f"{name}, {kind}",
                f"{seconds:.2f}",
                f"{seconds / first:.1f}",
                f"{explained(model, held_out, X):.3f}",
                f"{seconds / model.n_iter_ / shape[0] * 200:.4f}",
            ]
        training.choose_space = choose_space


def sparse_rows(n_samples, n_features, n_entries=100):
    columns = np.random.default_rng(0).integers(0, n_features, (n_samples, n_entries))
    rows = np.repeat(np.arange(n_samples), n_entries)
    entries = np.full(rows.size, n_entries**-0.5, dtype=np.float32)
    X = scipy.sparse.csr_array(
        (entries, (rows, columns.ravel())), shape=(n_samples, n_features)
    )
    X.sum_duplicates()
    return X


def growth(quick):
    """Yield the rows of the table of growth."""
    sizes = (
        ((2000, 2000),)
        if quick
        else ((10**5, 10**4), (10**5, 10**5), (2 * 10**4, 10**6))
    )
    for n_samples, n_features in sizes:
        X = sparse_rows(n_samples, n_features)
        for solver in ("muon", "adam"):
            trainer = training.Trainer(
                Architecture((n_features, 64), tied=True),
                X,
                loss="squared_error",
                learning_rate=0.05,
                batch_size=1024,
                precision="float32",
                device=torch.device("cpu"),
                seed=0,
                lam=None,
                optimizer=solver,
                only_these_rows=True,
            )
            start = time.perf_counter()
            trainer.epoch()
            seconds = time.perf_counter() - start
            steps = trainer.batches.n_batches
            start = time.perf_counter()
            for _ in range(10):
                trainer.optimizer.step()
            step = (time.perf_counter() - start) / 10
            yield [
                f"{n_samples:,} × {n_features:,}, {solver}",
                f"{seconds:.1f}",
                f"{steps * step / seconds:.0%}",
            ]


def peak_memory(n_samples, n_features, n_hidden):
    """Return the peak MiB of a whole default fit above the import and X itself."""
    torch.set_num_threads(1)
    X = sparse_rows(n_samples, n_features, 60)
    before = private_memory()
    peak = Peak()
    _, seconds = timed(ContractiveAutoencoderTransformer(n_hidden, random_state=0), X)
    return peak.value - before, seconds


def memory(quick):
    """Yield the row of the table of memory, measured in a new process."""
    sizes = (200, 2**15, 16) if quick else (1200, 2**20, 16)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        mib, seconds = executor.submit(peak_memory, *sizes).result()
    n_samples, n_features, n_hidden = sizes
    name = f"{n_samples:,} × {n_features:,}, n_hidden {n_hidden}"
    yield [name, f"{seconds:.1f}", f"{mib:.0f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny tables")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = {"environment": report.environment()}
    for name, function, header in (
        ("text", text, ["", "CPU s", "× SVD", "explained", "accuracy"]),
        (
            "few rows",
            few_rows,
            ["", "CPU s", "× PCA", "explained", "s an epoch of 200 rows"],
        ),
        (
            "growth",
            growth,
            ["64 units, 100 entries a row", "s an epoch", "optimiser"],
        ),
        ("memory", memory, ["a whole default fit", "CPU s", "peak MiB"]),
    ):
        rows = list(function(args.quick))
        content[name] = [header, *rows]
        print(report.table(header, rows), flush=True)
    report.write_json(args.output, "wide", content)


if __name__ == "__main__":
    main()
