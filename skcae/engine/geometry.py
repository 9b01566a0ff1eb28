"""The local geometry of the encoder, from its Jacobian J = ∂h/∂x, per sample.

Let W_1 = Q R be the thin QR decomposition of the first layer's weights. The code of x
is then also that of the coordinates x Q in an encoder whose first weights are R. If J̃
is the Jacobian of that encoder, J = J̃ Qᵀ. J̃ has only min(n_features, n_units of the
first layer) columns. As the columns of Q are orthonormal, the nonzero singular values
of J̃ are those of J.
"""

import itertools

import numpy as np
import torch

from .device import make_generator, threads_for
from .inference import code, decoded
from .network import activation_derivatives, encode
from .penalties import jacobian


def entries_per_row(architecture):
    """Return the size of the largest matrix that the functions here need for a row."""
    sizes = architecture.sizes
    return max(sizes[1:]) * min(sizes[:2])


# A decomposition multiplies by panels of about this many columns of its matrix.
_PANEL_COLUMNS = 32


def _decomposed(decomposition, matrices, **options):
    """Return ``decomposition(matrices, **options)``.

    On a CPU, PyTorch decomposes the matrices of a batch one after the other. Threads
    that share a small matrix wait for each other most of the time.
    """
    with threads_for(matrices.shape[-2:].numel() * _PANEL_COLUMNS):
        return decomposition(matrices, **options)


def _reduced_jacobian(architecture, parameters, x):
    """Return J̃ of shape (n_samples, n_hidden, r), and Q of shape (n_features, r)."""
    first, *others = parameters.encoder_weights
    basis, triangle = _decomposed(torch.linalg.qr, first)
    rotated = parameters._replace(encoder_weights=[triangle, *others])
    return jacobian(architecture, rotated, x @ basis), basis


def singular_values(architecture, parameters, x):
    """Singular values of the Jacobian, descending.

    They are computed from J̃ itself. The eigenvalues of its Gram matrix would take 0.4
    to 1 times as long, but would lose half of the digits.

    Returns
    -------
    values : Tensor of shape (n_samples, min(n_hidden, n_features))
    """
    reduced, _ = _reduced_jacobian(architecture, parameters, x)
    values = _decomposed(torch.linalg.svdvals, reduced)
    # If the first layer is narrow, J̃ has fewer singular values than J. The others of J
    # are zero.
    n_missing = min(architecture.sizes[0], architecture.sizes[-1]) - values.shape[1]
    return torch.nn.functional.pad(values, (0, n_missing))


def tangent_bases(n_components):
    """Return the function that computes the Jacobian's leading right singular vectors.

    The function returns a tensor of shape (n_samples, n_components, n_features) with
    orthonormal rows. The entry of largest magnitude of each row is positive.
    """

    def function(architecture, parameters, x):
        reduced, basis = _reduced_jacobian(architecture, parameters, x)
        vectors = _decomposed(torch.linalg.svd, reduced, full_matrices=False).Vh
        vectors = vectors[:, :n_components] @ basis.T
        largest = vectors.abs().argmax(dim=2, keepdim=True)
        return vectors * vectors.gather(2, largest).sign()

    return function


# Parameters of `leading_tangents`. Each sample has n_components + _OVERSAMPLING own
# vectors. All samples share _N_SHARED times as many vectors, which _N_SHARED_ITERATIONS
# iterations compute. On a GPU, at most _N_SHARED_ON_GPU vectors are shared, since
# cuSOLVER decomposes larger matrices one by one. The iterations on the samples' own
# vectors end when Σ ‖J u‖² grows by no more than the fraction _GROWTH, or after
# _N_ITERATIONS.
_OVERSAMPLING = 4
_N_SHARED = 3
_N_SHARED_ON_GPU = 32
_N_SHARED_ITERATIONS = 3
_GROWTH = 0.003
_N_ITERATIONS = 8


def _n_vectors(n_components, sizes, on_gpu=False):
    """Return the numbers of a sample's own and of the shared vectors."""
    n_own = n_components + _OVERSAMPLING
    n_shared = _N_SHARED * n_own
    if on_gpu and n_own <= _N_SHARED_ON_GPU:
        n_shared = min(n_shared, _N_SHARED_ON_GPU)
    return min(n_own, *sizes), min(n_shared, *sizes)


def tangent_entries(n_components, sizes):
    """Return the size of the largest array that `leading_tangents` needs for a row."""
    n_own, n_shared = _n_vectors(n_components, sizes)
    return max(n_own * sizes[0], n_shared * max(sizes[1:]))


def _images(vectors, layers):
    """Return ``vectors @ J.mT``, the images of the rows of ``vectors``."""
    for weight, d in layers:
        vectors = (vectors @ weight) * d
    return vectors


def _normalised(layers, images):
    """Divide the Jacobians and the images by the largest entries of the images.

    Squares of results that are computed with them then stay in the dtype's range.
    """
    largest = images.abs().amax(dim=(1, 2), keepdim=True)
    largest = largest.clamp(min=torch.finfo(largest.dtype).tiny)
    *others, (weight, d) = layers
    return [*others, (weight, d / largest)], images / largest


def _orthonormal_preimages(images, layers):
    """Return an orthonormal basis, in rows, of the rows of ``images @ J``."""
    for weight, d in reversed(layers):
        images = (images * d) @ weight.T
    return _decomposed(torch.linalg.qr, images.mT).Q.mT


def _leading_combinations(images, n):
    """Return the ``n`` leading left singular vectors of the images, and squared values.

    The vectors are rows, in the order of descending singular values.
    """
    values, vectors = _decomposed(torch.linalg.eigh, images @ images.mT)
    return vectors[:, :, -n:].flip(2).mT, values[:, -n:].flip(1)


def leading_tangents(n_components, seed):
    """Return a function that approximates that of `tangent_bases`, for large layers.

    The Jacobians of one encoder differ only in the derivatives of its units. The
    algorithm has two stages. First, subspace iteration from random vectors (Halko,
    Martinsson and Tropp, SIAM Review 2011, algorithm 4.4) approximates the leading
    right singular vectors of the Jacobian with the mean derivatives. The tangents of
    each sample lie near their span. Second, subspace iteration with the sample's own
    Jacobian starts from the best vectors in that span. All products are products with
    weights, for all samples at once.

    The vectors are exact if there are at most n_components + 4 features, or as few
    units in a layer. Otherwise they may be mixed with the next singular vectors, if
    those have nearly as large singular values. For 1000 sigmoid units, the 784 features
    of MNIST and 15 vectors u, the function takes at most a thirtieth of the time of an
    exact decomposition on a CPU. Its vectors have 99.97% of the Σ ‖J u‖² of the exact
    ones. Signs are arbitrary.

    The mean derivatives are those of the rows of a call. The random vectors are the
    same in each call.
    """

    def function(architecture, parameters, x):
        encoding = encode(architecture, parameters, x)
        diagonals = activation_derivatives(architecture, encoding)
        layers = [
            (weight, d.unsqueeze(1))
            for weight, d in zip(parameters.encoder_weights, diagonals, strict=True)
        ]
        n_own, n_shared = _n_vectors(n_components, architecture.sizes, x.is_cuda)
        shape = (1, n_shared, x.shape[1])
        vectors = torch.randn(
            shape, generator=make_generator(seed), dtype=torch.float64, device="cpu"
        )
        vectors = vectors.to(x)
        mean = [(weight, d.abs().mean(dim=0, keepdim=True)) for weight, d in layers]
        # Most of these products are too small to be shared by threads.
        with threads_for(n_shared * max(weight.numel() for weight, _ in layers)):
            mean, images = _normalised(mean, _images(vectors, mean))
            for _ in range(_N_SHARED_ITERATIONS):
                vectors = _orthonormal_preimages(images, mean)
                images = _images(vectors, mean)
        layers, images = _normalised(layers, _images(vectors, layers))
        best, squares = _leading_combinations(images, n_own)
        for _ in range(_N_ITERATIONS):
            before = squares[:, :n_components].sum()
            vectors = _orthonormal_preimages(best @ images, layers)
            images = _images(vectors, layers)
            best, squares = _leading_combinations(images, n_own)
            if squares[:, :n_components].sum() <= (1 + _GROWTH) * before:
                break
        return best[:, :n_components] @ vectors

    return function


def participation_ratio(architecture, parameters, x):
    """(Σ σ²)² / Σ σ⁴ of the Jacobian's singular values σ, or 0 if all are zero.

    The two sums are the traces of the Gram matrix of J̃ and of its square, so that no
    singular value has to be computed.

    Returns
    -------
    ratios : Tensor of shape (n_samples,)
    """
    reduced, _ = _reduced_jacobian(architecture, parameters, x)
    # Scaled by its largest entry, so that no fourth power underflows.
    largest = reduced.abs().amax(dim=(1, 2), keepdim=True)
    reduced = reduced / largest.where(largest > 0, 1)
    if reduced.shape[1] < reduced.shape[2]:
        reduced = reduced.mT
    gram = reduced.mT @ reduced
    trace = reduced.square().sum(dim=(1, 2))
    squares = gram.square().sum(dim=(1, 2))
    return trace.square() / squares.where(squares > 0, 1)


def displacement(architecture, parameters, x):
    """Reconstruction minus input, x̂ - x."""
    return decoded(architecture, parameters, code(architecture, parameters, x)) - x


def gram_product(architecture, parameters, encoding, v):
    """J Jᵀ v for a vector v of each sample, without the Jacobian.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    encoding : tuple
        The result of `encode` for the samples.
    v : Tensor of shape (n_samples, n_hidden)

    Returns
    -------
    products : Tensor of shape (n_samples, n_hidden)
    """
    diagonals = activation_derivatives(architecture, encoding)
    layers = list(zip(parameters.encoder_weights, diagonals, strict=True))
    for weight, d in reversed(layers):
        v = (d * v) @ weight.T
    for weight, d in layers:
        v = d * (v @ weight)
    return v


# About this many numbers are drawn from one generator in each step, for the walks that
# share it. With a larger number, more draws would be wasted if a block has few rows;
# with a smaller one, a draw would take longer.
_SHARED_DRAWS = 2**12


def _noise(seed, first, n_walks, n_hidden):
    """Yield normal noise of shape (n_walks, n_hidden), once for each step.

    It is the noise of the walks from number ``first`` on. It doesn't depend on
    ``n_walks``: each generator belongs to a fixed group of walks, and draws for the
    whole group.
    """
    size = max(1, _SHARED_DRAWS // n_hidden)
    group, skipped = divmod(first, size)
    n_groups = -(-(skipped + n_walks) // size)
    # Seeds of PyTorch's CPU generators have 32 bits, so that many generators would have
    # some seeds in common. NumPy's don't have this problem.
    generators = [np.random.default_rng((seed, group + i)) for i in range(n_groups)]
    drawn = np.empty((n_groups, size, n_hidden))
    while True:
        for generator, out in zip(generators, drawn, strict=True):
            generator.standard_normal(out=out)
        yield torch.from_numpy(drawn).flatten(0, 1)[skipped : skipped + n_walks]


def walk(n_steps, sigma, seed, keep_path):
    """Return the function that walks from each row along the encoder's tangents.

    A step leads from x to g(h + J Jᵀ ε), where h = f(x), J is the Jacobian at x, and ε
    has independent normal entries with standard deviation ``sigma`` (Rifai, Bengio,
    Dauphin and Vincent, ICML 2012). Successive calls must get successive blocks of
    rows. The noise depends only on ``seed``, the number of the row, the number of the
    step and the number of hidden units.

    The function returns the last states, of shape (n_samples, n_features). With
    ``keep_path`` it returns all states, the first of which are the rows themselves, in
    the shape (n_samples, n_steps + 1, n_features).
    """
    n_before = 0

    def function(architecture, parameters, x):
        nonlocal n_before
        noises = _noise(seed, n_before, len(x), architecture.sizes[-1])
        n_before += len(x)
        path = [x]
        for noise in itertools.islice(noises, n_steps):
            encoding = encode(architecture, parameters, x)
            h = encoding[1][-1]
            # The noise is drawn on the CPU in float64, so that it is the same in every
            # format and on every device.
            noise = (noise * sigma).to(h)
            h = h + gram_product(architecture, parameters, encoding, noise)
            x = decoded(architecture, parameters, h)
            if keep_path:
                path.append(x)
        return torch.stack(path, dim=1) if keep_path else x

    return function
