"""Test errors of the papers' classifiers on MNIST.

    python benchmarks/paper_mnist.py --data path/to/mnist.npz

The models of Rifai et al. (ICML 2011), one layer of 1000 sigmoid units with tied
weights and cross-entropy, fine-tuned with a softmax layer; two layers; and the Manifold
Tangent Classifier (NIPS 2011). 50,000 images train, 10,000 validate, 10,000 test. With
``--labels 100`` only so many of the 50,000 have a label when the network is fine-tuned.

Settings are chosen one group after the other, each by the validation error of the first
seed. The test error is computed only with the settings chosen, for every seed. Each
finished run is in ``paper_mnist.json``, and not repeated when the script is started
again; pretrained encoders are kept beside it, in ``pretrained/``. Delete both for
another start, or where the library has changed.

It takes hours. ``--models``, ``--labels`` and ``--seeds`` select parts; ``--quick``
shows that all of it runs.
"""

import argparse
import hashlib
import json
import os
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import report
import torch
from problem import glorot, load_mnist
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer

ALL = 50_000  # labels
N_TRAIN, N_VALIDATION = 50_000, 10_000

# Candidates of the pretraining. The first one is the only one with ``--quick``.
PRETRAINING = {
    "none": [{}],
    "AE": [{"lam": 0}],
    "AE+wd": [{"lam": 0, "alpha": alpha} for alpha in (1e-4, 1e-3, 1e-5)],
    "DAE-b": [
        {"lam": 0, "corruption": "masking", "corruption_level": level}
        for level in (0.25, 0.1, 0.4)
    ],
    "DAE-g": [
        {"lam": 0, "corruption": "gaussian", "corruption_level": level}
        for level in (0.3, 0.1, 0.5)
    ],
    "RBM": [{"rbm_learning_rate": rate} for rate in (0.05, 0.01, 0.1)],
    "CAE": [{"lam": lam} for lam in (0.3, 0.1, 1, 3)],
    "CAE+H": [
        {"lam": lam, "gamma": gamma, "sigma": 0.1}
        for lam in (0.3, 0.1)
        for gamma in (0.3, 1)
    ],
    "CAE-2": [{"lam": lam, "n_layers": 2} for lam in (0.3, 0.1, 1, 3)],
    "MTC": [{"lam": lam} for lam in (0.3, 0.1, 1, 3)],
    "MTC-2": [{"lam": lam, "n_layers": 2} for lam in (0.3, 0.1, 1, 3)],
}

# What is common to all autoencoders, and to the fine-tuning of all.
AUTOENCODER = {"loss": "cross_entropy", "output_activation": "sigmoid"}
FINE_TUNING = {
    "solver": "adam",
    "learning_rate_init": 0.001,
    "alpha": 0.0,
    "max_iter": 200,
    "tangent_weight": 0.0,
    "n_tangents": 15,
}

# Candidates of the fine-tuning besides these, chosen in this order. max_iter is an
# upper limit: fine-tuning ends where the objective has settled.
GROUPS = [
    [{"learning_rate_init": rate} for rate in (0.003, 0.0003)],
    [{"max_iter": 20}],
    [{"alpha": alpha} for alpha in (1e-5, 1e-4)],
]
TANGENTS = [{"tangent_weight": weight} for weight in (0.01, 0.1, 1, 10)]


class Runs:
    """Finished runs in a file that is replaced as a whole after each of them."""

    def __init__(self, path):
        self.path = path
        self.runs = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def get(self, compute, **settings):
        """Return what ``compute(**settings)`` returned, now or in an earlier call."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.runs:
            self.runs[key] = compute(**settings)
            replace(
                self.path, lambda path: path.write_text(json.dumps(self.runs, indent=1))
            )
        return self.runs[key]


def replace(path, write):
    """Write a file beside its place and move it there: whole, or not at all."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def quietly(function, *args):
    """Call without the warning that max_iter came before convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


class Study:
    """The data, and how to pretrain, fine-tune and evaluate on them."""

    def __init__(self, args):
        self.n_hidden, self.epochs = args.hidden, args.epochs
        self.max_iter = 3 if args.quick else None
        self.cache = args.output / "pretrained"
        X, y = load_mnist(args.data)
        if args.quick:  # as large a test set as before, from the images behind
            X, y = (
                np.concatenate([a[:1000], a[ALL : ALL + 500], a[-500:]]) for a in (X, y)
            )
        n_train, n_validation = (1000, 500) if args.quick else (N_TRAIN, N_VALIDATION)
        parts = [n_train, n_train + n_validation]
        X, y = np.split(X, parts), np.split(y, parts)
        self.train, self.validation, self.test = zip(X, y, strict=True)

    # Pretraining

    def pretrained(self, pretraining, seed):
        """Return the fitted autoencoder and the CPU seconds that took; cached."""
        settings = {**pretraining, "epochs": self.epochs, "n_hidden": self.n_hidden}
        text = json.dumps([settings, seed, len(self.train[0])], sort_keys=True)
        name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        path = self.cache / f"{name}.joblib"
        if not path.exists():
            start = time.process_time()
            model = self.pretrain(seed=seed, **pretraining)
            seconds = time.process_time() - start
            self.cache.mkdir(parents=True, exist_ok=True)
            replace(path, lambda path: joblib.dump((model, seconds), path))
        return joblib.load(path)

    def pretrain(self, *, seed, n_layers=1, rbm_learning_rate=None, **parameters):
        X = self.train[0]
        if rbm_learning_rate is not None:
            rbm = BernoulliRBM(
                self.n_hidden,
                learning_rate=rbm_learning_rate,
                n_iter=self.epochs,
                random_state=seed,
            ).fit(X)
            return self.with_encoder([rbm.components_.T], [rbm.intercept_hidden_])
        if not parameters:
            W, b, _, _ = glorot(X.shape[1], self.n_hidden, seed)
            return self.with_encoder([W], [b])
        coefs, intercepts = [], []
        for _ in range(n_layers):  # Each on what the one before computes.
            model = self.autoencoder(seed, **parameters)
            X = quietly(model.fit_transform, X)
            coefs += model.encoder_coefs_
            intercepts += model.encoder_intercepts_
        return model if n_layers == 1 else self.with_encoder(coefs, intercepts)

    def autoencoder(self, seed, n_hidden=None, **parameters):
        return ContractiveAutoencoderTransformer(
            n_hidden or self.n_hidden,
            max_iter=parameters.pop("max_iter", self.epochs),
            random_state=seed,
            **AUTOENCODER,
            **parameters,
        )

    def with_encoder(self, coefs, intercepts):
        """Return a fitted autoencoder with this encoder, and a decoder of no use."""
        sizes = [len(intercept) for intercept in intercepts]
        model = self.autoencoder(0, n_hidden=sizes, max_iter=1)
        quietly(model.fit, self.train[0][:100])
        model.encoder_coefs_ = [np.asarray(a, np.float32) for a in coefs]
        model.encoder_intercepts_ = [np.asarray(a, np.float32) for a in intercepts]
        return model

    # Fine-tuning

    def fine_tuned(self, pretraining, fine_tuning, n_labels, seed):
        """Return the classifier and the CPU seconds of pretraining and fine-tuning."""
        autoencoder, pretraining_seconds = self.pretrained(pretraining, seed)
        X, y = self.train
        if n_labels < len(y):
            X, _, y, _ = train_test_split(
                X, y, train_size=n_labels, stratify=y, random_state=seed
            )
        if self.max_iter is not None:
            fine_tuning = {**fine_tuning, "max_iter": self.max_iter}
        model = ContractiveAutoencoderClassifier(
            FrozenEstimator(autoencoder), random_state=seed, **fine_tuning
        )
        start = time.process_time()
        quietly(model.fit, X, y)
        return model, pretraining_seconds, time.process_time() - start

    def run(self, part, pretraining, fine_tuning, n_labels, seed, **_):
        """Return the error in percent on one part of the data, and what it cost."""
        model, pretraining_seconds, seconds = self.fine_tuned(
            pretraining, fine_tuning, n_labels, seed
        )
        error = 100 * (1 - model.score(*getattr(self, part)))
        print(
            f"  {part} error {error:.2f}%, {model.n_iter_} epochs, {seconds:.0f} s: "
            f"{short(pretraining, {}) or 'no pretraining'}; "
            f"{short(fine_tuning, FINE_TUNING)}; {n_labels} labels, seed {seed}",
            flush=True,
        )
        return {
            "error": error,
            "n_iter": model.n_iter_,
            "seconds": seconds,
            "pretraining_seconds": pretraining_seconds,
        }


def chosen(model, n_labels, error, quick):
    """Return the pretraining and the fine-tuning with the lowest validation error.

    Parameters
    ----------
    error : callable
        ``error(pretraining, fine_tuning)``.
    """
    groups = [*GROUPS, *([TANGENTS] if model.startswith("MTC") else [])]
    n_candidates = 1 if quick else None
    candidates = [(p, FINE_TUNING) for p in PRETRAINING[model][:n_candidates]]
    best = min(candidates, key=lambda pair: error(*pair))
    for group in groups:
        pretraining, fine_tuning = best
        others = [(pretraining, fine_tuning | c) for c in group[:n_candidates]]
        if group is TANGENTS:  # Without tangents it would be another model.
            best = others[0]
        best = min([best, *others], key=lambda pair: error(*pair))
    return best


def short(settings, common):
    """Return the settings that differ from the common ones, as text."""
    different = {k: v for k, v in settings.items() if common.get(k) != v}
    return ", ".join(
        f"{k}={v:g}" if k != "corruption" else v for k, v in different.items()
    )


def rows_of(results):
    """Return the rows of the table."""
    rows = []
    for r in results:
        errors = r["test_errors"]
        spread = f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
        rows.append(
            (
                r["model"],
                f"{r['n_labels']:,}",
                f"{np.mean(errors):.2f}{spread}",
                len(errors),
                f"{r['validation_error']:.2f}",
                short(r["pretraining"], {}) or "–",
                short(r["fine_tuning"], FINE_TUNING) or "–",
                f"{r['pretraining_seconds']:.0f} + {r['seconds']:.0f}",
            )
        )
    return rows


HEADER = (
    "model",
    "labels",
    "test error, %",
    "seeds",
    "validation error",
    "pretraining",
    "fine-tuning",
    "CPU seconds",
)


def plot(results, path):
    """Draw the test errors by model, one panel for each number of labels."""
    import matplotlib.pyplot as plt

    numbers = sorted({r["n_labels"] for r in results})
    figure, axes = plt.subplots(
        1,
        len(numbers),
        figsize=(1 + 3.5 * len(numbers), 3.5),
        layout="constrained",
        squeeze=False,
    )
    for ax, n_labels in zip(axes.flat, numbers, strict=True):
        bars = [r for r in results if r["n_labels"] == n_labels]
        for i, r in enumerate(bars):
            errors = r["test_errors"]
            ax.plot([i] * len(errors), errors, ".", color="#b8bec4")
            ax.plot(i, np.mean(errors), "_", markersize=18, color="#0b6e99")
        ax.set_xticks(range(len(bars)), [r["model"] for r in bars], rotation=45)
        ax.set(title=f"{n_labels:,} labels", ylabel="test error, %")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz; default openml.org")
    parser.add_argument(
        "--models", nargs="+", choices=PRETRAINING, default=list(PRETRAINING)
    )
    parser.add_argument("--labels", nargs="+", type=int, default=[ALL])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=50, help="of pretraining")
    parser.add_argument("--hidden", type=int, default=1000)
    parser.add_argument("--threads", type=int, help="of PyTorch; default all cores")
    parser.add_argument(
        "--quick", action="store_true", help="few rows, units and epochs"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.epochs, args.seeds = 30, 3, args.seeds[:2]
        args.output = args.output / "quick"
    if args.threads:
        torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    study = Study(args)
    runs = Runs(args.output / "paper_mnist.json")
    results = []
    for n_labels in args.labels:
        n_labels = min(n_labels, len(study.train[0]))
        for model in args.models:
            print(f"{model}, {n_labels} labels", flush=True)

            def run(part, pretraining, fine_tuning, seed, n_labels=n_labels):
                return runs.get(
                    study.run,
                    part=part,
                    pretraining=pretraining,
                    fine_tuning=fine_tuning,
                    n_labels=n_labels,
                    seed=seed,
                    epochs=args.epochs,
                    n_hidden=args.hidden,
                )

            def error(pretraining, fine_tuning, run=run):
                return run("validation", pretraining, fine_tuning, args.seeds[0])[
                    "error"
                ]

            settings = chosen(model, n_labels, error, args.quick)
            finals = [run("test", *settings, seed) for seed in args.seeds]
            results.append(
                {
                    "model": model,
                    "n_labels": n_labels,
                    "pretraining": settings[0],
                    "fine_tuning": settings[1],
                    "validation_error": error(*settings),
                    "test_errors": [r["error"] for r in finals],
                    "seconds": np.mean([r["seconds"] for r in finals]),
                    "pretraining_seconds": np.mean(
                        [r["pretraining_seconds"] for r in finals]
                    ),
                }
            )
            # After each, so that an interrupted run leaves what it has.
            content = {"environment": report.environment(), "results": results}
            report.write_json(args.output, "paper_mnist_table", content)
            plot(results, args.output / "paper_mnist.png")
    print(f"\n{report.table(HEADER, rows_of(results))}")


if __name__ == "__main__":
    main()
