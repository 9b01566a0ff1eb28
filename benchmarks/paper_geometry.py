"""How contractive and how saturated are the papers' autoencoders? On MNIST.

    python benchmarks/paper_geometry.py --data path/to/mnist.npz

One hidden layer of 1000 sigmoid units, tied weights, cross-entropy, as in Rifai et al.
(ICML 2011): on held-out rows the mean norm of the encoder's Jacobian, the fraction of
saturated activations (below 0.05 or above 0.95) and the reconstruction error; and how
well the leading tangents know what may happen to a digit: the share of a small shift,
rotation, change of size or shear that lies in their span, beside that of the principal
components of all images and of each image's nearest ones.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import report
from problem import load_data
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors

from skcae import ContractiveAutoencoderTransformer
from skcae.geometry import tangent_bases

N_TANGENTS = 16
N_NEIGHBOURS = 60

MODELS = {
    "AE": {"lam": 0},
    "AE+wd": {"lam": 0, "alpha": 1e-3},
    "DAE-b": {"lam": 0, "corruption": "masking", "corruption_level": 0.3},
    "DAE-g": {"lam": 0, "corruption": "gaussian", "corruption_level": 0.3},
    "CAE": {"lam": 1},
    "CAE+H": {"lam": 1, "gamma": 1, "sigma": 0.1},
}


def deformations(X):
    """Return a basis of what small deformations do to each image.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 784)

    Returns
    -------
    bases : ndarray of shape (n_samples, 784, 6)
        Orthonormal, of the derivatives of the image, slightly blurred, with respect to
        the six parameters of an affine map.
    """
    images = gaussian_filter(X.reshape(-1, 28, 28), sigma=(0, 0.6, 0.6))
    down, right = np.gradient(images, axis=(1, 2))
    x = np.arange(28) - 13.5
    y = x[:, np.newaxis]
    gradients = [right, down, x * right, y * right, x * down, y * down]
    return np.linalg.qr(np.stack([g.reshape(len(X), -1) for g in gradients], 2)).Q


def share(bases, tangents):
    """Return the mean share of the directions ``bases`` in the span of the tangents.

    Tangents are orthonormal rows, of shape (n_samples, n_tangents, n_features) or the
    same for all samples.
    """
    return float(np.square(tangents @ bases).sum(axis=1).mean())


def neighbours_components(X, train):
    """Return the principal components of each row's nearest rows about it."""
    nearest = NearestNeighbors(n_neighbors=N_NEIGHBOURS).fit(train).kneighbors(X)[1]
    differences = train[nearest] - X[:, np.newaxis]
    return np.linalg.svd(differences, full_matrices=False).Vh[:, :N_TANGENTS]


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
    train, test = X[:-5000][: args.rows], X[-5000:]
    few = test[:200]
    bases = deformations(few)
    shares = {
        "PCA": share(bases, PCA(N_TANGENTS, random_state=0).fit(train).components_),
        "nearest images": share(bases, neighbours_components(few, train)),
    }
    rows = [[name, *["–"] * 4, f"{shared:.0%}", "–"] for name, shared in shares.items()]
    results = {name: {"deformations": shared} for name, shared in shares.items()}
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
            "deformations": share(bases, tangent_bases(model, few, N_TANGENTS)),
            "seconds": seconds,
        }
        norm, saturated, error, shared, _ = results[name].values()
        settings = ", ".join(f"{k}={v}" for k, v in parameters.items())
        row = [f"{norm:.2f}", f"{saturated:.0%}", f"{error:.1f}", f"{shared:.0%}"]
        row.append(f"{seconds:.0f}")
        rows.append([name, settings, *row])
        print(name, *row, flush=True)
    header = "", "settings", "‖J‖_F", "saturated", "cross-entropy"
    header += f"deformations in {N_TANGENTS} tangents", "seconds"
    print(f"\n{report.table(header, rows)}")
    content = {"environment": report.environment(), "arguments": vars(args)}
    content["arguments"]["output"] = str(args.output.name)
    report.write_json(args.output, "paper_geometry", {**content, "models": results})


if __name__ == "__main__":
    main()
