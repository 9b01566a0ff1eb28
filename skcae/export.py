"""Export to ONNX, for inference without Python, and to PyTorch, for further training.

Converters for skl2onnx can convert whole pipelines to ONNX. The optional packages are
installed by ``pip install ".[onnx]"`` in the repository root, and imported when a
function needs them.
"""

import math
from copy import deepcopy

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from ._classifier import ContractiveAutoencoderClassifier
from ._detector import SAME, ContractiveAutoencoderDetector
from ._transformer import ContractiveAutoencoderTransformer
from .engine.modules import MODULE_TYPES, as_module, entries, nested

__all__ = ["decoder_to_onnx", "from_torch", "register_onnx_converter", "to_torch"]

_TO_TORCH = {
    "estimator": [ContractiveAutoencoderTransformer, ContractiveAutoencoderClassifier],
    "part": [StrOptions({"encoder", "decoder", "autoencoder"}), None],
}
_FROM_TORCH = {"module": MODULE_TYPES, **_TO_TORCH}

# The ONNX form of each activation of the engine, for opset 9 and newer.
# ``add(operator, *inputs, **attributes)`` adds a node and returns the name of its
# output; inputs are names or numbers.
_ONNX_ACTIVATIONS = {
    "elu": lambda add, a: add("Elu", a, alpha=1.0),
    # This is a Φ(a). ONNX has an operator for it only since opset 20.
    "gelu": lambda add, a: add(
        "Mul",
        add("Mul", a, 0.5),
        add("Add", add("Erf", add("Mul", a, math.sqrt(0.5))), 1.0),
    ),
    "identity": lambda add, a: a,
    "leaky_relu": lambda add, a: add("LeakyRelu", a, alpha=0.01),
    "relu": lambda add, a: add("Relu", a),
    "sigmoid": lambda add, a: add("Sigmoid", a),
    "silu": lambda add, a: add("Mul", a, add("Sigmoid", a)),
    "softplus": lambda add, a: add("Softplus", a),
    "softsign": lambda add, a: add("Softsign", a),
    "tanh": lambda add, a: add("Tanh", a),
}


# The same options as for scikit-learn's classifiers
_CLASSIFIER_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
    "raw_scores": [True, False],
}


def register_onnx_converter():
    """Register converters for the estimators of this package in skl2onnx.

    After one call, ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` convert a
    fitted `ContractiveAutoencoderTransformer`, `ContractiveAutoencoderClassifier` or
    `ContractiveAutoencoderDetector`, and pipelines that contain one. The ONNX model
    computes `~ContractiveAutoencoderTransformer.transform`, or the classifier's
    ``predict`` and ``predict_proba``, for any number of rows, in float32 whatever the
    type of its input; its output is float64 if that is, and float32 otherwise.

    A classifier has the labels and probabilities as outputs, and the options "zipmap",
    "nocl", "output_class_labels" and "raw_scores" (for the decision function in place
    of the probabilities), like scikit-learn's classifiers in skl2onnx. A detector has
    the outputs "label" and "scores", its ``predict`` and ``decision_function``.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    decoder_to_onnx : Export of `inverse_transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from skl2onnx import to_onnx
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler, StandardScaler
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.export import register_onnx_converter
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> model = make_pipeline(
    ...     MinMaxScaler(),
    ...     ContractiveAutoencoderTransformer(tol=0.01, random_state=0),
    ...     StandardScaler(),
    ...     LogisticRegression(),
    ... ).fit(X, y)
    >>> register_onnx_converter()
    >>> data = to_onnx(model, X[:1], options={"zipmap": False}).SerializeToString()
    >>> session = InferenceSession(data, providers=["CPUExecutionProvider"])
    >>> labels, probabilities = session.run(None, {"X": X})
    >>> bool(np.allclose(probabilities, model.predict_proba(X), atol=1e-5))
    True
    """
    register = _skl2onnx().update_registered_converter
    for estimator in (ContractiveAutoencoderTransformer, _Decoder):
        register(estimator, f"Skcae{estimator.__name__}", _infer_shape, _convert)
    register(
        ContractiveAutoencoderClassifier,
        f"Skcae{ContractiveAutoencoderClassifier.__name__}",
        _infer_classifier_shapes,
        _convert_classifier,
        options=_CLASSIFIER_OPTIONS,
    )
    register(
        ContractiveAutoencoderDetector,
        f"Skcae{ContractiveAutoencoderDetector.__name__}",
        _infer_detector_shapes,
        _convert_detector,
    )


@validate_params(
    {"estimator": [ContractiveAutoencoderTransformer]},
    prefer_skip_nested_validation=True,
)
def decoder_to_onnx(estimator, *, target_opset=None):
    """Convert `inverse_transform` of a fitted estimator to an ONNX model.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer
        The fitted estimator.

    target_opset : int or dict, default=None
        Version of the ONNX operators, as for ``skl2onnx.to_onnx``. None means the
        newest that skl2onnx has been tested with.

    Returns
    -------
    model : onnx.ModelProto
        Its input "X" is a float32 tensor of shape (n_samples, n_hidden). Its output
        "variable" is a float32 tensor of shape (n_samples, n_features).

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    register_onnx_converter : Export of `transform`, also in pipelines.

    Examples
    --------
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.export import decoder_to_onnx
    >>> X = load_digits().data.astype(np.float32) / 16
    >>> model = ContractiveAutoencoderTransformer(tol=0.01, random_state=0).fit(X)
    >>> data = decoder_to_onnx(model).SerializeToString()
    >>> session = InferenceSession(data, providers=["CPUExecutionProvider"])
    >>> H = model.transform(X)
    >>> restored = session.run(None, {"X": H})[0]
    >>> bool(np.allclose(restored, model.inverse_transform(H), atol=1e-5))
    True
    """
    register_onnx_converter()
    from skl2onnx.common.data_types import FloatTensorType

    decoder = _Decoder(estimator)
    n_hidden = _layers(decoder)[0][0].shape[0]
    return _skl2onnx().to_onnx(
        decoder,
        initial_types=[("X", FloatTensorType([None, n_hidden]))],
        target_opset=target_opset,
        name=f"ONNX({type(estimator).__name__}.inverse_transform)",
    )


@validate_params(_TO_TORCH, prefer_skip_nested_validation=True)
def to_torch(estimator, part=None):
    """Make a PyTorch module with the weights of a fitted estimator.

    The module has copies of the weights: training it doesn't change the estimator.
    `from_torch` makes an estimator of the module's weights.

    Parameters
    ----------
    estimator : ContractiveAutoencoderTransformer or ContractiveAutoencoderClassifier
        The fitted estimator.

    part : {"encoder", "decoder", "autoencoder"} or None, default=None
        The part of a transformer that the module computes: `transform`,
        `inverse_transform`, or one after the other. None means "encoder". For a
        classifier it must be None. The module then computes the inputs z of the
        softmax, one for each class.

    Returns
    -------
    module : torch.nn.Sequential
        The module, on the CPU and in float32. Its modules are named "layer1",
        "activation1", "layer2" and so on. An autoencoder has the modules "encoder" and
        "decoder". A decoder has its own weights, even if those of the estimator are
        tied.

    Raises
    ------
    ValueError
        If ``estimator`` is a classifier and ``part`` isn't None.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    from_torch : The inverse, after training the module.
    skcae.losses.contractive_penalty : The penalty, for training the module.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.export import to_torch
    >>> X = load_digits().data.astype(np.float32) / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> encoder = to_torch(cae)
    >>> encoder
    Sequential(
      (layer1): Linear(in_features=64, out_features=64, bias=True)
      (activation1): Sigmoid()
    )
    >>> H = encoder(torch.tensor(X)).detach().numpy()
    >>> bool(np.allclose(H, cae.transform(X), atol=1e-6))
    True
    """
    if isinstance(estimator, ContractiveAutoencoderClassifier):
        if part is not None:
            raise ValueError(
                f"part must be None for a classifier. Got {part!r} instead."
            )
        return as_module(_layers(estimator))
    check_is_fitted(estimator)
    encoder, decoder = _layers(estimator), _layers(_Decoder(estimator))
    if part == "autoencoder":
        return nested(encoder=as_module(encoder), decoder=as_module(decoder))
    return as_module(decoder if part == "decoder" else encoder)


@validate_params(_FROM_TORCH, prefer_skip_nested_validation=True)
def from_torch(module, estimator, part=None):
    """Return a copy of a fitted estimator with the weights of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        What `to_torch` returned for the same estimator and part, trained on, on any
        device; or a module whose ``state_dict`` has the same names and shapes. Only
        its parameters are looked at: it is taken to have the estimator's activations.

    estimator : ContractiveAutoencoderTransformer or ContractiveAutoencoderClassifier
        The fitted estimator. It isn't changed.

    part : {"encoder", "decoder", "autoencoder"} or None, default=None
        As in `to_torch`.

    Returns
    -------
    estimator : ContractiveAutoencoderTransformer or ContractiveAutoencoderClassifier
        The copy. Its curves are those of the original estimator's training. The weights
        of a transformer are no longer tied: ``tied_weights`` is False.

    Raises
    ------
    ValueError
        If the module's names or shapes differ, or if a weight is infinite or NaN.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    to_torch : Make the module from an estimator.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> from skcae.export import from_torch, to_torch
    >>> X = load_digits().data / 16
    >>> cae = ContractiveAutoencoderTransformer(random_state=0).fit(X)
    >>> encoder = to_torch(cae)
    >>> torch.nn.init.zeros_(encoder.layer1.bias).shape
    torch.Size([64])
    >>> changed = from_torch(encoder, cae)
    >>> float(abs(changed.encoder_intercepts_[0]).max())
    0.0
    """
    expected = entries(to_torch(estimator, part))
    values = entries(module)
    shapes, expected = (
        {name: array.shape for name, array in group.items()}
        for group in (values, expected)
    )
    if shapes != expected:
        raise ValueError(
            f"module must have parameters of the names and shapes {expected}. Got "
            f"{shapes} instead."
        )
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise ValueError(f"module has infinite or NaN values in {name!r}.")
    result = deepcopy(estimator)
    if isinstance(estimator, ContractiveAutoencoderClassifier):
        _set_layers(result.coefs_, result.intercepts_, values)
        return result
    if part == "autoencoder":
        parts = {"encoder": "encoder.", "decoder": "decoder."}
    else:
        parts = {part or "encoder": ""}
    for name, prefix in parts.items():
        coefs, intercepts = (
            getattr(result, f"{name}_{kind}_") for kind in ("coefs", "intercepts")
        )
        _set_layers(coefs, intercepts, values, prefix)
    result.tied_weights = False
    result._architecture = tuple(
        result._fitted_architecture._replace(tied=False, gain=1.0)
    )
    result._training_state = None
    return result


def _set_layers(coefs, intercepts, values, prefix=""):
    """Replace the arrays of all layers; each keeps its number format."""
    for i in range(len(coefs)):
        layer = f"{prefix}layer{i + 1}"
        coefs[i] = values[f"{layer}.weight"].T.astype(coefs[i].dtype, order="C")
        intercepts[i] = values[f"{layer}.bias"].astype(intercepts[i].dtype)


def _skl2onnx():
    try:
        import skl2onnx
    except ImportError as error:
        raise ImportError(
            "Export to ONNX requires skl2onnx. Install it with "
            'pip install ".[onnx]" in the repository root.'
        ) from error
    return skl2onnx


class _Decoder(TransformerMixin, BaseEstimator):
    """The decoder of a fitted autoencoder, as a transformer for skl2onnx."""

    def __init__(self, autoencoder):
        self.autoencoder = autoencoder

    def transform(self, X):
        return self.autoencoder.inverse_transform(X)


def _layers(model):
    """Return the weights, biases and activation of each layer that `model` applies."""
    if isinstance(model, ContractiveAutoencoderClassifier):
        check_is_fitted(model)
        activation, last = model._activation, "identity"
        coefs, intercepts = model.coefs_, model.intercepts_
    else:
        decodes = isinstance(model, _Decoder)
        model = model.autoencoder if decodes else model
        check_is_fitted(model)
        architecture = model._fitted_architecture
        activation = last = architecture.activation
        coefs, intercepts = model.encoder_coefs_, model.encoder_intercepts_
        if decodes:
            coefs, intercepts = model.decoder_coefs_, model.decoder_intercepts_
            last = architecture.output_activation
    activations = [activation] * (len(coefs) - 1) + [last]
    return list(zip(coefs, intercepts, activations, strict=True))


def _labels(scope, classifier):
    """Return the class labels in a type that ONNX supports: int64 or strings."""
    from skl2onnx.common.utils_classifier import get_label_classes

    check_is_fitted(classifier)
    classes = np.asarray(get_label_classes(scope, classifier))
    if classes.dtype.kind in "biuf" and (classes == classes.astype(np.int64)).all():
        return classes.astype(np.int64)
    if all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    raise ValueError(
        f"ONNX models have class labels that are integers or strings. Got {classes}."
    )


def _float_type(operator):
    """Return the type of the operator's output.

    In skl2onnx, the following steps compute in float64 if X is float64, and in float32
    otherwise.
    """
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    is_double = any(isinstance(x.type, DoubleTensorType) for x in operator.inputs)
    return DoubleTensorType if is_double else FloatTensorType


def _infer_shape(operator):
    """Set the type of the operator's output, as a shape calculator of skl2onnx."""
    n_rows = operator.inputs[0].get_first_dimension()
    n_columns = _layers(operator.raw_operator)[-1][0].shape[1]
    operator.outputs[0].type = _float_type(operator)([n_rows, n_columns])


def _infer_classifier_shapes(operator):
    """Set the types of a classifier's outputs, the labels and the probabilities."""
    from skl2onnx.common.data_types import (
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    n_rows = operator.inputs[0].get_first_dimension()
    labels = _labels(operator.scope_inst, operator.raw_operator)
    label_type = StringTensorType if labels.dtype == object else Int64TensorType
    operator.outputs[0].type = label_type([n_rows])
    # ONNX supports only float32 in dictionaries.
    zipped = any(
        other.type == "SklearnZipMap" and operator.outputs[1] in other.inputs
        for other in operator.scope_inst.operators.values()
    )
    float_type = FloatTensorType if zipped else _float_type(operator)
    operator.outputs[1].type = float_type([n_rows, len(labels)])


def _adder(scope, container, dtype=np.float32):
    """Return the function that adds a node to the container; see above.

    ``dtype`` is that of all floating-point constants.
    """
    from onnx import TensorProto, numpy_helper

    def name_of(value):
        if isinstance(value, str):
            return value
        value = np.asarray(value)
        name = scope.get_unique_variable_name("constant")
        if value.dtype == object:
            strings = [string.encode("utf-8") for string in value]
            container.add_initializer(name, TensorProto.STRING, value.shape, strings)
            return name
        if value.dtype.kind == "f":
            value = value.astype(dtype)
        container.add_initializer(name, None, None, numpy_helper.from_array(value))
        return name

    def add(operator_type, *inputs, output=None, **attributes):
        output = output or scope.get_unique_variable_name("value")
        container.add_node(
            operator_type,
            [name_of(value) for value in inputs],
            output,
            name=scope.get_unique_operator_name(operator_type),
            **attributes,
        )
        return output

    return add


def _add_input(add, operator):
    """Add the operator's input as one matrix of float32; return its name."""
    from onnx import TensorProto

    # Each column of a table may be a separate input.
    inputs = [add("Cast", x.full_name, to=TensorProto.FLOAT) for x in operator.inputs]
    return add("Concat", *inputs, axis=1)


def _add_layers(add, model, h):
    """Add all layers of a model; return the name of the last one's output."""
    for coef, intercept, activation in _layers(model):
        a = add("Gemm", h, coef, intercept)
        h = _ONNX_ACTIVATIONS[activation](add, a)
    return h


def _add_output(add, value, output):
    """Add a node that casts a value to an output of the operator."""
    from skl2onnx.common.data_types import guess_proto_type

    add("Cast", value, to=guess_proto_type(output.type), output=output.full_name)


def _convert(scope, operator, container):
    """Add the operator's nodes to the container, as a converter of skl2onnx."""
    add = _adder(scope, container)
    (output,) = operator.outputs
    x = _add_input(add, operator)
    _add_output(add, _add_layers(add, operator.raw_operator, x), output)


def _convert_classifier(scope, operator, container):
    """Add a classifier's nodes to the container, as a converter of skl2onnx."""
    add = _adder(scope, container)
    label, probabilities = operator.outputs
    options = container.get_options(operator.raw_operator, {"raw_scores": False})
    z = _add_layers(add, operator.raw_operator, _add_input(add, operator))
    number = add("ArgMax", z, axis=1, keepdims=0)
    labels = _labels(scope, operator.raw_operator)
    add("Gather", labels, number, axis=0, output=label.full_name)
    if not options["raw_scores"]:
        z = add("Softmax", z, axis=1)
    elif labels.shape == (2,):  # The scores are minus and plus the decision function.
        z = add("MatMul", z, np.array([[1.0, -1.0], [-1.0, 1.0]]))
    _add_output(add, z, probabilities)


def _infer_detector_shapes(operator):
    """Set the types of the outputs of a detector: labels and decision function."""
    from skl2onnx.common.data_types import Int64TensorType

    check_is_fitted(operator.raw_operator)
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([n_rows])
    operator.outputs[1].type = _float_type(operator)([n_rows, 1])


def _convert_detector(scope, operator, container):
    """The same for a detector."""
    from onnx import TensorProto

    detector = operator.raw_operator
    add = _adder(scope, container)
    label, scores = operator.outputs
    x = _add_input(add, operator)
    h = _add_layers(add, detector.transformer_, x)
    error = add("Sub", x, _add_layers(add, _Decoder(detector.transformer_), h))
    if detector._directions is not None:
        error = add("MatMul", error, detector._directions)
    # Distances take differences of large terms.
    add = _adder(scope, container, np.float64)
    points = add("Concat", h, error, axis=1)
    points = add("Div", add("Cast", points, to=TensorProto.DOUBLE), detector._scale)
    neighbors = detector._neighbors
    known = detector._points_known
    products = add("MatMul", points, -2 * known.T)
    # Sums are products with ones: operators for sums differ between opsets.
    ones = np.ones((known.shape[1], 1))
    squares = add("MatMul", add("Mul", points, points), ones)
    distances = add("Add", add("Add", products, squares), np.square(known).sum(axis=1))
    distances = add("Sqrt", add("Max", distances, np.zeros(())))
    n_neighbors = np.array([neighbors.n_neighbors_])
    index = scope.get_unique_variable_name("index")
    nearest = scope.get_unique_variable_name("nearest")
    inputs = [add("Identity", distances), add("Identity", n_neighbors)]
    container.add_node(
        "TopK",
        inputs,
        [nearest, index],
        name=scope.get_unique_operator_name("TopK"),
        op_version=11,
        axis=1,
        largest=0,
        sorted=1,
    )
    # The local outlier factor, with the reachability distances of the known points.
    to_last, density = _densities(neighbors)
    reach = add("Max", nearest, add("Gather", to_last, index, axis=0))
    parts = np.full(neighbors.n_neighbors_, 1 / neighbors.n_neighbors_)
    mean = add("MatMul", reach, parts)
    around = add("MatMul", add("Gather", density, index, axis=0), parts)
    factor = add("Mul", around, add("Add", mean, np.array(_TINY)))
    first, first_index = (
        add("Gather", value, np.array(0), axis=1) for value in (nearest, index)
    )
    own = add("Gather", -neighbors.negative_outlier_factor_, first_index, axis=0)
    factor = add("Where", add("Less", first, np.array(SAME)), own, factor)
    decision = add("Sub", np.array(-detector.offset_), factor)
    is_outlier = add("Less", decision, np.zeros(()))
    add("Where", is_outlier, np.array(-1), np.array(1), output=label.full_name)
    _add_output(add, add("Reshape", decision, np.array([-1, 1])), scores)


# What scikit-learn adds to mean distances, lest they be 0.
_TINY = 1e-10


def _densities(neighbors):
    """Return each known point's distance to its last neighbour, and its density."""
    distances, index = neighbors.kneighbors()
    to_last = distances[:, -1]
    return to_last, 1 / (np.maximum(distances, to_last[index]).mean(axis=1) + _TINY)
