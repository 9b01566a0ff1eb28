"""Deep autoencoders from layers that were trained one after the other."""

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import check_is_fitted

from ._compat import without_callbacks
from ._transformer import OUTPUT_ACTIVATIONS, ContractiveAutoencoderTransformer

__all__ = ["stack"]


@validate_params({"pipeline": [Pipeline]}, prefer_skip_nested_validation=True)
def stack(pipeline):
    """Make one deep transformer from a fitted pipeline of transformers.

    The papers' deep models are trained layer by layer. Each layer is a contractive
    autoencoder of the previous layer's output [1]_ [2]_. A
    `~sklearn.pipeline.Pipeline` trains in this way. The result encodes and decodes as
    the pipeline does, but is a `ContractiveAutoencoderTransformer`: its Jacobian and
    its tangents are those of all layers together, and `fit` with ``warm_start=True``
    trains all layers together. A `ContractiveAutoencoderClassifier` accepts the
    pipeline itself.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline. Each step is a fitted `ContractiveAutoencoderTransformer`, of one
        or more layers. All steps have the same ``activation``. Each step but the first
        reconstructs the code of the previous step, so that its ``output_activation``
        must be the same activation. With several steps this is "sigmoid" or
        "identity". A slice, such as ``pipeline[1:]``, leaves out other steps, for
        example a scaler.

    Returns
    -------
    transformer : ContractiveAutoencoderTransformer
        A fitted transformer with copies of the layers' weights. Its parameters are
        those of the first step, except for ``n_hidden`` and ``tied_weights``, which is
        True only if the weights of all steps are tied, those of steps after the first
        with g = 1. It has no callbacks, and has not been trained as a whole:
        ``n_iter_`` is 0, and ``loss_curve_`` and the curves of ``history_`` are empty.

    Raises
    ------
    NotFittedError
        If a step isn't fitted.
    ValueError
        If there are no steps, a step is of another kind, the steps don't fit together,
        or a parameter of the first step has become invalid.

    See Also
    --------
    ContractiveAutoencoderTransformer : With a sequence ``n_hidden``, it trains all
        layers at once.

    Notes
    -----
    A clone, as in cross-validation, has the parameters but not the weights, and `fit`
    without ``warm_start=True`` starts anew. With ``early_stopping=True``, training the
    result holds out the rows that the first step held out. All steps hold out the same
    rows if their ``random_state`` is the same int.

    References
    ----------
    .. [1] Y. Bengio, P. Lamblin, D. Popovici and H. Larochelle, "Greedy Layer-Wise
       Training of Deep Networks", NIPS 2006.
    .. [2] S. Rifai, Y. Dauphin, P. Vincent, Y. Bengio and X. Muller, "The Manifold
       Tangent Classifier", NIPS 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.stacking import stack
    >>> X = load_digits().data / 16
    >>> layers = make_pipeline(
    ...     ContractiveAutoencoderTransformer(64, random_state=0),
    ...     ContractiveAutoencoderTransformer(
    ...         32, output_activation="sigmoid", random_state=0
    ...     ),
    ... )
    >>> deep = stack(layers.fit(X))
    >>> deep.n_hidden
    (64, 32)
    >>> deep.jacobian(X[:5]).shape
    (5, 32, 64)
    """
    names, layers = zip(*checked_steps(pipeline), strict=True)
    for layer in layers:
        check_is_fitted(layer)
    # The first step's parameters become the result's. They may have been set since fit.
    layers[0]._validate_params()
    architecture = _joined(names, [layer._fitted_architecture for layer in layers])
    stacked = without_callbacks(clone(layers[0])).set_params(
        n_hidden=architecture.sizes[1:],
        activation=architecture.activation,
        output_activation=architecture.output_activation,
        tied_weights=architecture.tied,
        loss=layers[0]._loss,
    )

    def joined(attribute, layers):
        return [a.copy() for layer in layers for a in getattr(layer, attribute)]

    vars(stacked).update(
        encoder_coefs_=joined("encoder_coefs_", layers),
        encoder_intercepts_=joined("encoder_intercepts_", layers),
        decoder_coefs_=joined("decoder_coefs_", layers[::-1]),
        decoder_intercepts_=joined("decoder_intercepts_", layers[::-1]),
        loss_curve_=np.empty(0),
        history_={name: np.empty(0) for name in stacked._curve_names()},
        n_iter_=0,
        lam_=layers[0].lam_,
        _architecture=tuple(architecture),
        _loss=layers[0]._loss,
        _training_state=None,
    )
    for name in ("n_features_in_", "feature_names_in_", "_split"):
        if hasattr(layers[0], name):
            setattr(stacked, name, getattr(layers[0], name))
    return stacked


def checked_steps(pipeline, name="pipeline"):
    """Return the steps. Raise ValueError unless all are autoencoders of this kind."""
    if not pipeline.steps:
        raise ValueError(f"{name} has no steps.")
    for step, layer in pipeline.steps:
        if not isinstance(layer, ContractiveAutoencoderTransformer):
            raise ValueError(
                f"All steps of {name} must be ContractiveAutoencoderTransformers. Got "
                f"{step!r}: {layer!r} instead. Other steps, such as a scaler, have to "
                "come before."
            )
    return pipeline.steps


def new_architecture(steps, n_features):
    """Return the architecture of `stack` after a fit of the steps to the features.

    Raises ValueError if the steps don't fit together.
    """
    names, layers = zip(*steps, strict=True)
    architectures = []
    for layer in layers:
        architectures.append(layer._new_architecture(n_features))
        n_features = architectures[-1].sizes[-1]
    return _joined(names, architectures)


def _joined(names, architectures):
    """Return the architecture of all steps together."""
    first, *others = architectures
    outputs = sorted(OUTPUT_ACTIVATIONS - {"auto"})
    if others and first.activation not in outputs:
        raise ValueError(
            f"activation of all steps must be one of {outputs}, with which a decoder "
            f"can end. Got {first.activation!r} in step {names[0]!r} instead."
        )
    sizes = first.sizes
    for name, other in zip(names[1:], others, strict=True):
        for parameter in ("activation", "output_activation"):
            value = getattr(other, parameter)
            if value != first.activation:
                raise ValueError(
                    f"{parameter} of step {name!r} must be {first.activation!r}, the "
                    f"activation of step {names[0]!r}. Got {value!r} instead."
                )
        if other.sizes[0] != sizes[-1]:
            raise ValueError(
                f"Step {name!r} was fitted to {other.sizes[0]} features, but the step "
                f"before it computes {sizes[-1]}."
            )
        sizes += other.sizes[1:]
    # An architecture has one gain, that of the layer that reconstructs the data.
    tied = first.tied and all(other.tied and other.gain == 1 for other in others)
    return first._replace(sizes=sizes, tied=tied)
