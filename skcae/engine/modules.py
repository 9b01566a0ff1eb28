"""Networks as modules of `torch.nn`, and the contractive penalty of any module."""

from collections import OrderedDict
from numbers import Integral

import torch
from torch import nn

from .network import Architecture, Parameters
from .penalties import contraction, draw_probes, projected_contraction

# What `entries` takes.
MODULE_TYPES = [nn.Module]

# The module of each activation.
MODULES = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}


def as_module(layers):
    """Return an `nn.Sequential` of layers, in float32.

    Parameters
    ----------
    layers : list of (ndarray, ndarray, str)
        Weights of shape (fan_in, fan_out), biases, and a key of ``ACTIVATIONS``.

    Returns
    -------
    module : torch.nn.Sequential
        Its modules are named "layer1", "activation1", "layer2" and so on. There is no
        module for the activation "identity".
    """
    modules = OrderedDict()
    for i, (weight, bias, activation) in enumerate(layers, start=1):
        linear = nn.Linear(*weight.shape, device="cpu", dtype=torch.float32)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight.T, device="cpu"))
            linear.bias.copy_(torch.tensor(bias, device="cpu"))
        modules[f"layer{i}"] = linear
        if activation != "identity":
            modules[f"activation{i}"] = MODULES[activation]()
    return nn.Sequential(modules)


def nested(**modules):
    """Return an `nn.Sequential` of named modules."""
    return nn.Sequential(OrderedDict(modules))


def entries(module):
    """Return the parameters and buffers of a module by name, as float32 arrays."""
    return {
        # The names of modules that `torch.compile` wraps.
        name.replace("_orig_mod.", ""): value.detach().to("cpu", torch.float32).numpy()
        for name, value in module.state_dict().items()
    }


def contractive_penalty(module, x, n_projections=None, generator=None):
    """Compute the contractive penalty ‖∂h/∂x‖²_F of a PyTorch encoder, per sample.

    This is the penalty of Rifai et al. ([1]_, equation 1), for your own encoders. Add
    its mean, multiplied by a weight, to your loss.

    Parameters
    ----------
    module : torch.nn.Module
        The encoder. It must process each sample independently, unlike batch
        normalisation in training mode. For some encoders the penalty is computed by an
        explicit formula: for a ``torch.nn.Sequential`` of linear layers, each followed
        by the same activation, one of those of
        `~skcae.ContractiveAutoencoderTransformer`. With one such layer the penalty
        costs next to nothing. For any other module it takes a backward pass for each
        unit of the code.

    x : torch.Tensor of shape (n_samples, ...)
        Floating-point inputs.

    n_projections : int or None, default=None
        Number of random projections for an unbiased estimate of the penalty [2]_, in
        [1, inf). Each projection costs a backward pass. None computes the penalty
        exactly. The penalty of one linear layer with an activation is always exact.

    generator : torch.Generator or None, default=None
        Generator of the projections, on any device. None means PyTorch's default
        generator of the CPU.

    Returns
    -------
    penalties : torch.Tensor of shape (n_samples,)
        Squared derivatives, summed over the inputs and the units of the code. They are
        differentiable with respect to the parameters, and to x if it requires a
        gradient.

    Raises
    ------
    ValueError
        If ``n_projections`` isn't None or an int of at least 1.
    TypeError
        If x isn't a tensor of floating-point numbers.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive
       Auto-Encoders: Explicit Invariance During Feature Extraction", ICML 2011.
    .. [2] J. Hoffman, D. A. Roberts and S. Yaida, "Robust Learning with Jacobian
       Regularization", 2019.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcae.losses import contractive_penalty
    >>> encoder = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid())
    >>> x = torch.rand(10, 5)
    >>> penalty = contractive_penalty(encoder, x).mean()
    >>> penalty.backward()
    >>> encoder[0].weight.grad.shape
    torch.Size([3, 5])
    """
    is_int = isinstance(n_projections, Integral) and not isinstance(n_projections, bool)
    if n_projections is not None and not (is_int and n_projections >= 1):
        raise ValueError(
            "n_projections must be None or an int in the range [1, inf). Got "
            f"{n_projections!r} instead."
        )
    if not (isinstance(x, torch.Tensor) and x.is_floating_point()):
        got = x.dtype if isinstance(x, torch.Tensor) else type(x)
        raise TypeError(
            f"x must be a tensor of floating-point numbers. Got {got} instead."
        )
    generator = generator or torch.default_generator
    # What `torch.compile` wraps, as its functions can't be differentiated twice.
    module = getattr(module, "_orig_mod", module)
    known = _as_network(module)
    if known is not None and x.dim() == 2:
        architecture, parameters = known
        if n_projections is None or architecture.depth == 1:
            return contraction(architecture, parameters, x)
        return projected_contraction(
            architecture, parameters, x, n_projections, generator
        )
    differentiates = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone() if x.is_inference() else x
        x = x if x.requires_grad else x.detach().requires_grad_()
        h = module(x).flatten(1)
        if n_projections is None:
            directions = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
            directions = directions.unsqueeze(1).expand(-1, len(h), -1)
        else:
            directions = draw_probes(h, n_projections, generator).transpose(0, 1)
        total = 0
        for direction in directions:
            (row,) = torch.autograd.grad(
                h, x, direction, retain_graph=True, create_graph=differentiates
            )
            total = total + row.flatten(1).square().sum(dim=1)
    return total


def _as_network(module):
    """Return the architecture and parameters that a module has, or None."""
    # Subclasses and hooks may compute something else.
    children = list(module) if type(module) is nn.Sequential else []
    if any(m._forward_hooks or m._forward_pre_hooks for m in (module, *children)):
        return None
    layers, activations = children[::2], children[1::2]
    if len(layers) != len(activations) or not layers:
        return None
    names = [name for name, kind in MODULES.items() if type(activations[0]) is kind]
    if not names or not all(type(layer) is nn.Linear for layer in layers):
        return None
    (name,) = names
    # All activations must be the same, with default slopes and approximations.
    if any(repr(other) != repr(MODULES[name]()) for other in activations):
        return None
    sizes = (layers[0].in_features, *(layer.out_features for layer in layers))
    biases = [
        layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
        for layer in layers
    ]
    weights = [layer.weight.T for layer in layers]
    return Architecture(sizes, name), Parameters(weights, biases, [], [])
