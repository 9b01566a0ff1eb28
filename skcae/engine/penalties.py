"""The encoder's Jacobian J = ∂h/∂x and its squared Frobenius norm, per sample.

``PENALTIES`` is the only list of penalties: the oracle tests read it. To add one, add
one entry.
"""

from .activations import ACTIVATIONS
from .network import encode


def contraction(architecture, parameters, x, encoding=None):
    """Squared Frobenius norm of the Jacobian of a one-layer encoder, in closed form.

    ‖J(x)‖²_F = Σ_j s'(a_j)² Σ_i W_ij²  with  a = x W + b

    (Rifai et al., ICML 2011, section 3, there for the sigmoid, s' = h (1 - h)). It
    costs O(n_samples n_hidden + n_features n_hidden); no Jacobian is formed.

    Parameters
    ----------
    architecture : Architecture
        With one encoder layer.
    parameters : Parameters
    x : Tensor of shape (n_samples, n_features)
    encoding : tuple, default=None
        What ``encode(architecture, parameters, x)`` returned, where it is at hand.

    Returns
    -------
    norms : Tensor of shape (n_samples,)
        Summed over features and hidden units, per sample; differentiable.
    """
    (a,), (h,) = encoding or encode(architecture, parameters, x)
    (weight,) = parameters.encoder_weights
    derivative = ACTIVATIONS[architecture.activation].derivative(a, h)
    return derivative.square() @ weight.square().sum(dim=0)


def jacobian(architecture, parameters, x):
    """Jacobian of the encoder, J = D_L W_Lᵀ … D_1 W_1ᵀ with D_l = diag(s'(a_l)).

    Returns
    -------
    jacobians : Tensor of shape (n_samples, n_hidden, n_features)
    """
    activation = ACTIVATIONS[architecture.activation]
    layers = zip(
        parameters.encoder_weights, *encode(architecture, parameters, x), strict=True
    )
    result = None
    for weight, a, h in layers:
        jacobian = weight.T if result is None else weight.T @ result
        result = activation.derivative(a, h)[:, :, None] * jacobian
    return result


PENALTIES = {"contraction": contraction}
