"""How contractive and how saturated are the papers' autoencoders? On MNIST.

    python benchmarks/paper_geometry.py --data path/to/mnist.npz

One hidden layer of 1000 sigmoid units, tied weights, cross-entropy, as in Rifai et al.
(ICML 2011): on held-out rows the mean norm of the encoder's Jacobian, the fraction of
saturated activations (below 0.05 or above 0.95) and the reconstruction error.
"""

import argparse
import time
import warnings
from pathlib import Path

import report
from problem import load_data
from sklearn.exceptions import ConvergenceWarning

from skcae import ContractiveAutoencoderTransformer

MODELS = {
    "AE": {"lam": 0},
    "AE+wd": {"lam": 0, "alpha": 1e-3},
    "DAE-b": {"lam": 0, "corruption": "masking", "corruption_level": 0.3},
    "DAE-g": {"lam": 0, "corruption": "gaussian", "corruption_level": 0.3},
    "CAE": {"lam": 1},
    "CAE+H": {"lam": 1, "gamma": 1, "sigma": 0.1},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="mnist.npz with x_train; default openml.org")
    parser.add_argument("--rows", type=int, default=20_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=1000)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    args = parser.parse_args()
    X = load_data("mnist", 60_000, None, args.data)
    train, test = X[: args.rows], X[-5000:]
    rows, results = [], {}
    for name, parameters in MODELS.items():
        model = ContractiveAutoencoderTransformer(
            args.hidden,
            loss="cross_entropy",
            output_activation="sigmoid",
            max_iter=args.epochs,
            random_state=0,
            **parameters,
        )
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train)
        seconds = time.perf_counter() - start
        h = model.transform(test)
        results[name] = {
            "jacobian_norm": float((model.contraction(test) ** 0.5).mean()),
            "saturated": float(((h < 0.05) | (h > 0.95)).mean()),
            "reconstruction": -model.score(test),
            "seconds": seconds,
        }
        norm, saturated, error, _ = results[name].values()
        settings = ", ".join(f"{k}={v}" for k, v in parameters.items())
        row = f"{norm:.2f}", f"{saturated:.0%}", f"{error:.1f}", f"{seconds:.0f}"
        rows.append([name, settings, *row])
        print(name, *row, flush=True)
    header = "", "settings", "‖J‖_F", "saturated", "cross-entropy", "seconds"
    print(f"\n{report.table(header, rows)}")
    content = {"environment": report.environment(), "arguments": vars(args)}
    content["arguments"]["output"] = str(args.output.name)
    report.write_json(args.output, "paper_geometry", {**content, "models": results})


if __name__ == "__main__":
    main()
