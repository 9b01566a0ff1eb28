"""The reconstruction loss as a function of the code, and its gradient.

Two classes share one protocol, for a model of one layer with a = x W + b, h = s(a) and
the reconstruction s_out(h V + c). `Formed` computes the reconstruction of each row.
`Gram` avoids that, for the squared error of a linear output.

    a = reconstruction.encode(x, out)
    loss, delta = reconstruction.forward(x, target, h)
    reconstruction.backward(x, A, d_columns)

``delta`` is the gradient of the mean loss with respect to h. The caller computes ``A``
from it, the gradient of the objective with respect to a. ``backward`` computes all
products with Xᵀ, and writes the gradients of W, V and c. ``d_columns`` are the factors
by which penalties multiply the columns of W in the gradient of W.
"""

import torch

from .activations import ACTIVATIONS
from .losses import LOSSES, dot
from .network import decode, last_decoder_input
from .sparse import (
    SparseTensor,
    add_transposed_product,
    product,
    squared_norms,
    transposed_product,
)


def is_expandable(loss, output_activation):
    """Return whether the loss is ‖x‖² − 2 x · z + ‖z‖².

    That is the squared error of a linear output. Rows x may then stay sparse.
    """
    return loss == "squared_error" and output_activation == "identity"


def loss_per_sample(architecture, parameters, h, x, loss):
    """Return the loss of the reconstruction from a code, per sample.

    It is differentiable with respect to the parameters and h. If x is sparse, the
    formula is expanded, so that no dense array of the size of x is needed.

    Parameters
    ----------
    architecture : Architecture
    parameters : Parameters
    h : Tensor of shape (n_samples, n_hidden)
    x : Tensor or SparseTensor of shape (n_samples, n_features)
    loss : str
        A key of ``LOSSES``. If x is sparse, the loss must be expandable; see
        `is_expandable`.

    Returns
    -------
    losses : Tensor of shape (n_samples,)
        Summed over features.
    """
    if not isinstance(x, SparseTensor):
        z = decode(architecture, parameters, h)
        output = ACTIVATIONS[architecture.output_activation]
        return LOSSES[loss].per_sample(z, x, output)
    h = last_decoder_input(architecture, parameters, h)
    decoder, c = parameters.decoder_weights[-1], parameters.decoder_biases[-1]
    # ‖x − c − h V‖² = ‖x − c‖² − 2 (x − c) Vᵀ hᵀ + h V Vᵀ hᵀ. The squares of x and c
    # may be far larger than that of their difference.
    wide = c.double()
    distances = squared_norms(x) - 2 * product(x, wide[:, None])[:, 0]
    distances = distances + torch.dot(wide, wide)
    p = product(x, decoder.T) - decoder @ c
    losses = distances + ((h @ (decoder @ decoder.T) - 2 * p) * h).sum(dim=1)
    # Terms that cancel can leave less than nothing.
    return (losses - losses.detach().clamp(max=0)).to(h.dtype)


# Multiplications that take the time of the calls that only `Gram` makes.
_CALLS = 5_000_000


def needs_no_reconstruction(
    architecture, loss, dtype, batch_size, corrupts, is_sparse=False
):
    """Return whether `Gram` takes less time than `Formed`, by the multiplications.

    With n rows, d features and h units, `Formed` takes 5 n d h. `Gram` takes 2 n d h
    where the weights are tied and the input is the target, else 4 n d h; and
    2 d h² + 2 n h² besides. It makes more calls, which cost as much as `_CALLS`
    multiplications. It needs the squared error of a linear output, and a precision of
    at least float32, since it takes differences of large terms. Sparse rows can't do
    without it.
    """
    if architecture.depth > 1 or dtype.itemsize < 4:
        return False
    if not is_expandable(loss, architecture.output_activation):
        return False
    if is_sparse:
        return True
    n_features, n_hidden = architecture.sizes
    saved_products = 3 if architecture.tied and not corrupts else 1
    saved = saved_products * batch_size * n_features
    added = 2 * n_hidden * (n_features + batch_size)
    return n_hidden * (saved - added) > _CALLS


class Formed:
    """Computes the reconstruction z = h V + c of each row, with five products in all.

    Let R be the gradient of the mean loss with respect to z. Then the gradient with
    respect to h is R Vᵀ, that of V is Hᵀ R, that of c is the sum of the rows of R, and
    that of W is Xᵀ A. If weights are tied, that of V is added to that of W.

    Parameters
    ----------
    architecture : Architecture
    parameters, views : Parameters of Tensor
        Views of the parameters, and of the vector to which their gradient is written.
    loss : str
        A key of ``LOSSES``.
    batch_size : int
        The largest number of rows in a batch.
    """

    def __init__(self, architecture, parameters, views, loss, batch_size):
        (self.weight,), (self.bias,), (self.decoder,), (self.c,) = parameters
        (self.d_weight,), _, (self.d_decoder,), (self.d_c,) = views
        self.tied, self.gain = architecture.tied, 1.0
        if self.tied:
            # With a gain, the decoder weight in ``parameters`` is a copy, not a view.
            self.decoder, self.gain = self.weight.T, architecture.gain
        self.loss = LOSSES[loss]
        self.output = ACTIVATIONS[architecture.output_activation]
        sizes = architecture.sizes
        self._z, self._scratch = (
            self.weight.new_empty(batch_size, sizes[0]) for _ in range(2)
        )
        self._delta = self.weight.new_empty(batch_size, sizes[1])
        self._decoder_t = self.decoder.T

    def encode(self, x, out):
        """Return a = x W + b."""
        return torch.addmm(self.bias, x, self.weight, out=out)

    def forward(self, x, target, h):
        """Return the loss, summed over the batch, and the gradient ∂/∂h."""
        n = x.shape[0]
        z = torch.addmm(self.c, h, self.decoder, alpha=self.gain, out=self._z[:n])
        loss = self.loss.sum_and_gradient(
            z, target, self.output, self._scratch[:n], 1 / n
        )
        self._h, self._r = h, z
        delta = torch.mm(z, self._decoder_t, out=self._delta[:n])
        return loss, delta if self.gain == 1 else delta.mul_(self.gain)

    def backward(self, x, A, d_columns):
        """Write the gradients of W, V and c."""
        h, r = self._h, self._r
        torch.mul(self.weight, d_columns, out=self.d_weight)
        self.d_weight.addmm_(x.T, A)
        if self.tied:
            self.d_weight.addmm_(r.T, h, alpha=self.gain)
        else:
            torch.mm(h.T, r, out=self.d_decoder)
        torch.sum(r, dim=0, out=self.d_c)


class Gram:
    """The squared error of a linear output, by Gram matrices of V and of h.

    Neither the reconstruction of a row nor its residual is computed. (Vincent, de
    Brébisson and Bouthillier, NIPS 2015, do this for large sparse targets.) Let H̃ be
    the code less its mean h̄ over the batch, T the n targets and t their sum. Let
    c̃ = c + h̄ V, G = V Vᵀ, K = H̃ᵀ H̃, P = T Vᵀ and ρ = n c̃ − t. Then

        ∂/∂h = 2/n (H̃ G + V c̃ − P)
        ∂/∂V = 2/n (K V − H̃ᵀ T + h̄ ρᵀ)
        ∂/∂c = 2/n ρ

    where V = g Wᵀ, with a gain g, if weights are tied. With e = c̃ − μ, the loss is

        Σ_n ‖t_n − μ‖² + Σ H̃ ∘ (H̃ G − 2 P) + e · (n e − 2 (t − n μ))

    for any μ; the class uses a point near the mean of the data. If weights are tied and
    the input is the target, P is g times the product x W, which the encoder needs
    anyway. The gradient of W then takes only one more product with Xᵀ,
    Xᵀ (A − 2g/n H̃).

    `forward` leaves out the first term of the loss, which depends only on the data. The
    Trainer computes the sum of this term over all rows once, and adds it to the report
    of each epoch.

    Parameters
    ----------
    architecture, parameters, views, batch_size
        As in `Formed`.
    centre : Tensor of shape (n_features,)
        The point μ.
    corrupts : bool
        Whether the input differs from the target.
    """

    def __init__(self, architecture, parameters, views, batch_size, centre, corrupts):
        (self.weight,), (self.bias,), (self.decoder,), (self.c,) = parameters
        (self.d_weight,), _, (self.d_decoder,), (self.d_c,) = views
        self.tied, self.gain = architecture.tied, 1.0
        if self.tied:
            self.decoder, self.gain = self.weight.T, architecture.gain
        self.centre = centre
        self._shares = self.tied and not corrupts
        n_hidden = architecture.sizes[1]

        def empty(*shape):
            return self.weight.new_empty(shape)

        self._p, self._h, self._delta = (empty(batch_size, n_hidden) for _ in range(3))
        self._gram, self._k = (empty(n_hidden, n_hidden) for _ in range(2))
        self._decoder_t = self.decoder.T
        self._ones = self.weight.new_ones(batch_size)

    def encode(self, x, out):
        """Return a = x W + b."""
        if not self._shares:
            return product(x, self.weight, self.bias, out=out)
        p = product(x, self.weight, out=self._p[: x.shape[0]])
        return torch.add(p, self.bias, out=out)

    def forward(self, x, target, h):
        """Return the loss less Σ ‖t_n − μ‖², summed over the batch, and ∂/∂h."""
        n, gain = x.shape[0], self.gain
        p, centred, delta = self._p[:n], self._h[:n], self._delta[:n]
        if not self._shares:
            product(target, self._decoder_t, out=p)
        self._mean = h.mean(dim=0)
        torch.sub(h, self._mean, out=centred)
        self._bias = torch.addmv(self.c, self._decoder_t, self._mean, alpha=gain)
        total = transposed_product(target, self._ones[:n])
        gram = torch.mm(self.decoder, self._decoder_t, out=self._gram)
        if gain != 1:
            gram.mul_(gain)
        torch.addmm(p, centred, gram, beta=-gain, alpha=gain, out=delta)
        e = self._bias - self.centre
        loss = torch.sub(dot(centred, delta), dot(centred, p), alpha=gain)
        loss = loss + torch.dot(
            e, torch.add(n * (e + 2 * self.centre), total, alpha=-2)
        )
        self._rho = (n * self._bias).sub_(total)
        self._target = target
        delta.add_(torch.mv(self.decoder, self._bias), alpha=gain).mul_(2 / n)
        return loss, delta

    def backward(self, x, A, d_columns):
        """Write the gradients of W, V and c."""
        n = x.shape[0]
        h, target, scale = self._h[:n], self._target, 2 / n * self.gain
        k = torch.mm(h.T, h, out=self._k).mul_(scale * self.gain)
        if self.tied:
            # Multiplying the columns of W by factors is adding a diagonal matrix to K.
            k.diagonal().add_(d_columns)
            torch.mm(self.weight, k, out=self.d_weight)
            self.d_weight.addr_(self._rho, self._mean, alpha=scale)
            if self._shares:
                A = torch.add(A, h, alpha=-scale, out=self._p[:n])
            else:
                add_transposed_product(self.d_weight, target, h, alpha=-scale)
            add_transposed_product(self.d_weight, x, A)
        else:
            torch.mul(self.weight, d_columns, out=self.d_weight)
            add_transposed_product(self.d_weight, x, A)
            torch.mm(k, self.decoder, out=self.d_decoder)
            add_transposed_product(self.d_decoder.T, target, h, alpha=-scale)
            self.d_decoder.addr_(self._mean, self._rho, alpha=scale)
        torch.mul(self._rho, 2 / n, out=self.d_c)
