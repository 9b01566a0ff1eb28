"""Test errors of the papers' classifiers on MNIST.

    python benchmarks/paper_mnist.py --data path/to/mnist.npz

The models of Rifai et al. (ICML 2011), one layer of 1000 sigmoid units with tied
weights and cross-entropy, fine-tuned with a softmax layer; two layers; and the Manifold
Tangent Classifier (NIPS 2011). 50,000 images train, 10,000 validate, 10,000 test. With
``--labels 100`` only so many of the 50,000 have a label when the network is fine-tuned.
With ``--corrupt`` it is fine-tuned on noisy images, which the papers' were not, with
``--solver muon`` by the library's default optimiser in place of Adam.

Every choice is made by the validation error: settings one group after the other, with
the first seed, and in each fine-tuning the epoch to end at. What was chosen is written
down before the test images are looked at, once for each seed, and never chosen again.

All of it is in ``paper_mnist.json``: a script that is started again goes on from
there, whichever parts (``--models``, ``--labels``, ``--seeds``) it is asked for, and
prints the table of all of them. Pretrained encoders and fine-tuned classifiers are kept
beside it. Take another ``--output`` for another start or device, or where the library
changed.

It takes hours; ``--quick`` shows that all of it runs.
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
from sklearn.pipeline import make_pipeline

from skcae import ContractiveAutoencoderClassifier, ContractiveAutoencoderTransformer
from skcae.stacking import stack

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
    "CAE": [{"lam": lam} for lam in (1, 0.3, 3)],
    "CAE+H": [
        {"lam": lam, "gamma": gamma, "sigma": 0.3}
        for lam in (1, 0.3)
        for gamma in (1, 10)
    ],
    "CAE-2": [{"lam": lam, "n_layers": 2} for lam in (1, 0.3, 3)],
    "MTC": [{"lam": lam} for lam in (1, 0.3, 3)],
    "MTC-2": [{"lam": lam, "n_layers": 2} for lam in (1, 0.3, 3)],
}

# What is common to all autoencoders, and what fine-tuning begins with. Where bfloat16
# is emulated, both fall back on float32. Muon's encoders take longer and are no better
# to start from.
AUTOENCODER = {
    "loss": "cross_entropy",
    "output_activation": "sigmoid",
    "solver": "adam",
    "learning_rate_init": 0.001,
    "batch_size": 128,
    "precision": "bfloat16",
}
FINE_TUNING = {
    "solver": "adam",
    "alpha": 0.0,
    "tangent_weight": 0.0,
    "n_tangents": 8,
}

# By solver of the fine-tuning. What Muon's steps take more than Adam's doesn't depend
# on the batch size.
LEARNING_RATES = {"adam": (0.0003, 0.001, 0.0001), "muon": (0.005, 0.002, 0.01)}
BATCH_SIZES = {"adam": 128, "muon": 512}

CORRUPTION = {"corruption": "gaussian", "corruption_level": 0.3}

# Candidates of the fine-tuning besides these, chosen after the learning rate; of the
# levels only with ``--corrupt``, in place of weight decay. Few labels leave more to the
# tangents.
DECAYS = [{"alpha": alpha} for alpha in (1e-6, 1e-5)]
LEVELS = [{"corruption_level": level} for level in (0.2, 0.4)]
TANGENTS = [{"tangent_weight": weight, "n_tangents": 16} for weight in (1, 3, 10, 30)]
FEW_LABELS_TANGENTS = [
    {"tangent_weight": weight, "n_tangents": 16} for weight in (100, 300, 1000)
]


class Log:
    """A JSON file of what was done, replaced as a whole after each addition."""

    def __init__(self, path):
        self.path = path
        self.parts = {"runs": {}, "chosen": {}, "tests": {}}
        if path.exists():
            self.parts = json.loads(path.read_text("utf-8"))

    def get(self, part, compute, **settings):
        """Return what ``compute(**settings)`` returned, now or in an earlier call."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.parts[part]:
            self.parts[part][key] = compute(**settings)
            text = json.dumps(self.parts, indent=1)
            replace(self.path, lambda path: path.write_text(text, "utf-8"))
        return self.parts[part][key]


def replace(path, write):
    """Write a file beside its place and move it there: whole, or not at all."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def digest(*settings):
    """Return a short name for settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def quietly(function, *args):
    """Call without the warning that max_iter came before convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


class BestEpoch:
    """A callback that keeps the classifier of the lowest validation error."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self.errors = []
        self.classifier = None

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            error = 100 * (1 - fitted_estimator.score(self.X, self.y))
            if error < min(self.errors, default=np.inf):
                self.classifier = fitted_estimator
            self.errors.append(error)


class Study:
    """The data, and how to pretrain, fine-tune and evaluate on them."""

    def __init__(self, args):
        self.n_hidden, self.epochs = args.hidden, args.epochs
        self.fine_tuning_epochs = args.fine_tuning_epochs
        self.device, self.folder = args.device, args.output
        X, y = load_mnist(args.data)
        if args.quick:  # as large a test set as before, from the images behind
            X, y = (
                np.concatenate([a[:1000], a[ALL : ALL + 500], a[-500:]]) for a in (X, y)
            )
        n_train, n_validation = (1000, 500) if args.quick else (N_TRAIN, N_VALIDATION)
        parts = [n_train, n_train + n_validation]
        X, y = np.split(X, parts), np.split(y, parts)
        self.train, self.validation, self.test = zip(X, y, strict=True)

    def kept(self, folder, name, compute):
        """Return what ``compute`` returned, now or in an earlier call."""
        path = self.folder / folder / f"{name}.joblib"
        if not path.exists():
            value = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, lambda path: joblib.dump(value, path))
        return joblib.load(path)

    # Pretraining

    def pretrained(self, pretraining, seed):
        """Return the fitted autoencoder and the CPU seconds that took."""

        def compute():
            start = time.process_time()
            model = self.pretrain(seed=seed, **pretraining)
            return model, time.process_time() - start

        settings = pretraining, self.epochs, self.n_hidden, seed, len(self.train[0])
        return self.kept("pretrained", digest(*settings), compute)

    def pretrain(self, *, seed, n_layers=1, rbm_learning_rate=None, **parameters):
        X = self.train[0]
        if rbm_learning_rate is not None:
            rbm = BernoulliRBM(
                self.n_hidden,
                learning_rate=rbm_learning_rate,
                n_iter=self.epochs,
                random_state=seed,
            ).fit(X)
            return self.with_encoder(rbm.components_.T, rbm.intercept_hidden_)
        if not parameters:
            W, b, _, _ = glorot(X.shape[1], self.n_hidden, seed)
            return self.with_encoder(W, b)
        layers = []
        for _ in range(n_layers):  # Each on what the one before computes.
            layers.append(self.autoencoder(seed, **parameters))
            X = quietly(layers[-1].fit_transform, X)
        return layers[0] if n_layers == 1 else stack(make_pipeline(*layers))

    def autoencoder(self, seed, **parameters):
        return ContractiveAutoencoderTransformer(
            self.n_hidden,
            max_iter=parameters.pop("max_iter", self.epochs),
            device=self.device,
            random_state=seed,
            **AUTOENCODER,
            **parameters,
        )

    def with_encoder(self, coefs, intercepts):
        """Return a fitted autoencoder with this encoder, and a decoder of no use."""
        model = self.autoencoder(0, max_iter=1)
        quietly(model.fit, self.train[0][:100])
        model.encoder_coefs_ = [np.asarray(coefs, np.float32)]
        model.encoder_intercepts_ = [np.asarray(intercepts, np.float32)]
        return model

    # Fine-tuning

    def fine_tuned(self, pretraining, fine_tuning, n_labels, seed):
        """Return the best epoch's classifier, and what led to it."""

        def compute():
            autoencoder, pretraining_seconds = self.pretrained(pretraining, seed)
            X, y = self.train
            if n_labels < len(y):
                X, _, y, _ = train_test_split(
                    X, y, train_size=n_labels, stratify=y, random_state=seed
                )
            best = BestEpoch(*self.validation)
            batch_size = BATCH_SIZES[fine_tuning["solver"]]
            model = ContractiveAutoencoderClassifier(
                FrozenEstimator(autoencoder),
                batch_size=int(np.clip(n_labels // 16, 16, batch_size)),
                # Few labels make few steps an epoch.
                max_iter=self.fine_tuning_epochs * (1 if n_labels == ALL else 5),
                n_iter_no_change=5,
                device=self.device,
                random_state=seed,
                **fine_tuning,
            ).set_callbacks(best)
            start = time.process_time()
            quietly(model.fit, X, y)
            run = {
                "errors": best.errors,
                "seconds": time.process_time() - start,
                "pretraining_seconds": pretraining_seconds,
            }
            return best.classifier.set_callbacks(), run

        settings = pretraining, fine_tuning, n_labels, seed
        common = self.epochs, self.fine_tuning_epochs, self.n_hidden
        return self.kept("fine_tuned", digest(*settings, *common), compute)

    def run(self, pretraining, fine_tuning, n_labels, seed, **_):
        """Fine-tune; return the validation errors in percent, and what it cost."""
        _, run = self.fine_tuned(pretraining, fine_tuning, n_labels, seed)
        errors = run["errors"]
        print(
            f"  validation error {min(errors):.2f}%, epoch {np.argmin(errors) + 1} of "
            f"{len(errors)}, {run['seconds']:.0f} s: "
            f"{short(pretraining, {}) or 'no pretraining'}; "
            f"{short(fine_tuning, FINE_TUNING)}; {n_labels} labels, seed {seed}",
            flush=True,
        )
        return run

    def test_error(self, pretraining, fine_tuning, n_labels, seed, **_):
        """Return the error on the test images in percent."""
        model, _ = self.fine_tuned(pretraining, fine_tuning, n_labels, seed)
        return 100 * (1 - model.score(*self.test))


def choose(model, error, solver, few_labels, corrupts, quick):
    """Return the pretraining and the fine-tuning with the lowest validation error.

    Parameters
    ----------
    error : callable
        ``error(pretraining, fine_tuning)``.
    """
    rates = [{"learning_rate_init": rate} for rate in LEARNING_RATES[solver]]
    groups = [rates[1:], LEVELS if corrupts else DECAYS]
    if model.startswith("MTC"):
        groups += [FEW_LABELS_TANGENTS if few_labels else TANGENTS]
    first = rates[0] | FINE_TUNING | {"solver": solver}
    first |= CORRUPTION if corrupts else {}
    n_candidates = 1 if quick else None
    candidates = [(p, first) for p in PRETRAINING[model][:n_candidates]]
    best = min(candidates, key=lambda pair: error(*pair))
    for group in groups:
        pretraining, fine_tuning = best
        others = [(pretraining, fine_tuning | c) for c in group[:n_candidates]]
        if "tangent_weight" in group[0]:  # Without, it would be another model.
            best = others[0]
        best = min([best, *others], key=lambda pair: error(*pair))
    return best


def short(settings, common):
    """Return the settings that differ from the common ones, as text."""
    different = {k: v for k, v in settings.items() if common.get(k) != v}
    return ", ".join(
        v if isinstance(v, str) else f"{k}={v:g}" for k, v in different.items()
    )


def mean_and_spread(values):
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def results_of(log):
    """Return what is known of each model: a list of dicts, one for a row."""
    results = []
    for key, (pretraining, fine_tuning) in log.parts["chosen"].items():
        common = json.loads(key)
        model = common.pop("model")
        common.pop("solver", None)  # It's in fine_tuning.
        common |= {"pretraining": pretraining, "fine_tuning": fine_tuning}
        found = {"runs": {}, "tests": {}}
        for part, by_seed in found.items():
            for run_key, value in log.parts[part].items():
                settings = json.loads(run_key)
                seed = settings.pop("seed")
                if settings == common:
                    by_seed[seed] = value
        if found["tests"]:
            runs = [found["runs"][seed] for seed in found["tests"]]
            results.append(
                {"model": model, **common, "seeds": list(found["tests"])}
                | {"test_errors": list(found["tests"].values())}
                | {name: [run[name] for run in runs] for name in runs[0]}
            )
    order = list(PRETRAINING)
    return sorted(
        results,
        key=lambda r: (-r["n_labels"], r["corrupts"], order.index(r["model"])),
    )


def name_of(r):
    """Return how pictures call the model."""
    return r["model"] + ", Muon" * (r["fine_tuning"]["solver"] == "muon")


def row_of(r):
    """Return one row of the table."""
    return (
        r["model"],
        f"{r['n_labels']:,}",
        mean_and_spread(r["test_errors"]),
        mean_and_spread([min(errors) for errors in r["errors"]]),
        len(r["seeds"]),
        ", ".join(str(np.argmin(errors) + 1) for errors in r["errors"]),
        short(r["pretraining"], {}) or "–",
        short(r["fine_tuning"], FINE_TUNING),
        f"{np.mean(r['pretraining_seconds']):.0f} + {np.mean(r['seconds']):.0f}",
    )


HEADER = (
    "model",
    "labels",
    "test error, %",
    "validation error, %",
    "seeds",
    "epochs",
    "pretraining",
    "fine-tuning",
    "CPU seconds",
)


def plot(results, path):
    """Draw the test errors by model, and how fine-tuning went, by number of labels.

    With and without corruption in columns of their own.
    """
    import matplotlib.pyplot as plt

    parts = {}
    for r in results:
        parts.setdefault((r["n_labels"], r["corrupts"]), []).append(r)
    figure, axes = plt.subplots(
        2,
        len(parts),
        figsize=(1 + 4 * len(parts), 6.5),
        layout="constrained",
        squeeze=False,
    )
    for (ax, below), (part, rows) in zip(axes.T, parts.items(), strict=True):
        n_labels, corrupts = part
        for i, r in enumerate(rows):
            errors = r["test_errors"]
            ax.plot([i] * len(errors), errors, ".", color="#b8bec4")
            ax.plot(i, np.mean(errors), "_", markersize=18, color=f"C{i}")
            n_epochs = min(map(len, r["errors"]))
            curve = np.mean([errors[:n_epochs] for errors in r["errors"]], axis=0)
            below.plot(range(1, n_epochs + 1), curve, color=f"C{i}", label=name_of(r))
        ax.set_xticks(range(len(rows)), list(map(name_of, rows)), rotation=45)
        title = f"{n_labels:,} labels" + ", noise in fine-tuning" * corrupts
        ax.set(title=title, ylabel="test error, %")
        highest = max(
            max(r["test_errors"]) for r in results if r["n_labels"] == n_labels
        )
        ax.set_ylim(0, 1.1 * highest)
        below.set(xlabel="epoch of fine-tuning", ylabel="validation error, %")
        below.set_ylim(0, 2 * highest)
        below.legend(ncols=2, frameon=False, fontsize="small")
        for axis in (ax, below):
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_labels(results, path):
    """Draw the test errors by number of labels, a line for each model.

    Means over the seeds and their standard deviations.
    """
    import matplotlib.pyplot as plt

    lines = {}
    for r in results:
        line = name_of(r), r["epochs"], r["fine_tuning_epochs"], r["n_hidden"]
        lines.setdefault(line, []).append((r["n_labels"], r["test_errors"]))
    figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for (name, *_), points in lines.items():
        n_labels, errors = zip(*sorted(points), strict=True)
        means = [np.mean(values) for values in errors]
        spreads = [np.std(values, ddof=len(values) > 1) for values in errors]
        ax.errorbar(n_labels, means, spreads, capsize=3, label=name)
    ticks = sorted({r["n_labels"] for r in results})
    ax.set(xscale="log", yscale="log", xlabel="labels", ylabel="test error, %")
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
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
    parser.add_argument("--fine-tuning-epochs", type=int, default=40, help="at most")
    parser.add_argument("--hidden", type=int, default=1000)
    parser.add_argument(
        "--corrupt", action="store_true", help="fine-tune on noisy images"
    )
    parser.add_argument(
        "--solver", choices=BATCH_SIZES, default="adam", help="of fine-tuning"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="of PyTorch; default all cores")
    parser.add_argument(
        "--quick", action="store_true", help="few rows, units and epochs"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    if args.quick:
        args.hidden, args.epochs, args.fine_tuning_epochs = 30, 3, 3
        args.seeds = args.seeds[:2]
        args.output = args.output / "quick"
    if args.threads:
        torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    study = Study(args)
    log = Log(args.output / "paper_mnist.json")
    for n_labels in args.labels:
        common = {
            "n_labels": min(n_labels, len(study.train[0])),
            "epochs": args.epochs,
            "fine_tuning_epochs": args.fine_tuning_epochs,
            "n_hidden": args.hidden,
            "corrupts": args.corrupt,
        }
        for model in args.models:
            print(f"{model}, {n_labels} labels", flush=True)

            def settings(pretraining, fine_tuning, seed, common=common):
                pair = {"pretraining": pretraining, "fine_tuning": fine_tuning}
                return {**pair, **common, "seed": seed}

            def error(*pair, settings=settings):
                run = log.get("runs", study.run, **settings(*pair, args.seeds[0]))
                return min(run["errors"])

            def chosen(model, n_labels, error=error, **_):
                few_labels = n_labels < len(study.train[0])
                return choose(
                    model, error, args.solver, few_labels, args.corrupt, args.quick
                )

            solver = {} if args.solver == "adam" else {"solver": args.solver}
            pair = log.get("chosen", chosen, model=model, **solver, **common)
            for seed in args.seeds:
                log.get("runs", study.run, **settings(*pair, seed))
            for seed in args.seeds:
                log.get("tests", study.test_error, **settings(*pair, seed))
            # After each, so that an interrupted run leaves what it has.
            results = results_of(log)
            content = {"environment": report.environment(), "results": results}
            report.write_json(args.output, "paper_mnist_table", content)
            plot(results, args.output / "paper_mnist.png")
            few = [r for r in results if r["n_labels"] < ALL and not r["corrupts"]]
            if len({r["n_labels"] for r in few}) > 1:
                plot_labels(few, args.output / "paper_mnist_labels.png")
    print(f"\n{report.table(HEADER, map(row_of, results_of(log)))}")


if __name__ == "__main__":
    main()
