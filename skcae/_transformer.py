"""The contractive autoencoder as a scikit-learn transformer."""

import math
import sys
import warnings
from collections.abc import Mapping, Set
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._compat import CallbackSupportMixin, with_callbacks
from ._epochs import (
    all_or_nothing,
    explained_failure,
    run_with_callbacks,
    steps_batch_size,
    to_lower,
)
from ._pickles import StampedMixin
from ._resume import agreed_n_samples, check_same_architecture, past_of, state_of
from ._validation import (
    array_or_tensor,
    beyond_unit_interval,
    check_range,
    hinting,
    scalers,
    split,
    unit_scaler,
    validated,
    validated_codes,
    validated_weights,
    without_zeros,
)
from .engine import inference
from .engine.activations import ACTIVATIONS
from .engine.corruption import CORRUPTIONS, check_corruption
from .engine.device import (
    DEVICE_TYPES,
    PRECISIONS,
    has_fast_bfloat16,
    has_float64,
    make_generator,
    resolve_device,
)
from .engine.distributed import current_group, taking_part
from .engine.losses import LOSSES
from .engine.network import Architecture, Parameters, largest_layer
from .engine.optimizer import OPTIMIZERS
from .engine.penalties import (
    PARAMETERS,
    PENALTIES,
    check_penalties,
    contraction,
    entries_per_row,
    jacobian,
    reported,
)
from .engine.reconstruction import is_expandable
from .engine.rows import as_array, as_rows, lost_in_rounding
from .engine.training import Trainer

# A model has learned nothing useful if its reconstruction leaves at least this fraction
# of the variation of X unexplained. For the squared error that is the variance.
_UNLEARNT = 0.9

# With lam above "auto" times this factor, the initial penalty is more than half of the
# variance that the start explains.
_FAR_ABOVE = 50

# The largest fraction of the variance of X that may be lost by rounding for training.
_TOO_COARSE = 0.1

# The values of output_activation. Reconstructions between the layers of a stacked model
# may have other activations.
OUTPUT_ACTIVATIONS = {"auto", "identity", "sigmoid"}


def _early_stopping_is_off(estimator):
    if estimator.early_stopping:
        raise AttributeError("partial_fit does not support early_stopping=True")
    return True


class ContractiveAutoencoderTransformer(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    StampedMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Contractive autoencoder: features that move little when the input does.

    It learns an encoder h(x) = s(a) with a = x W + b, and a decoder x̂ = s_out(h V + c).
    They minimise, averaged over the samples,

    .. math::
        \\sum_i (x_i - \\hat x_i)^2
        + \\mathrm{lam} \\, \\sum_j s'(a_j)^2 \\sum_i W_{ij}^2

    The second term is the squared Frobenius norm of the encoder's Jacobian ∂h/∂x
    ([1]_, equation 1). It makes the features as constant as they can be while they
    still reconstruct the data well. The penalty of a deep encoder is that of the
    Jacobian of all its layers together. Other parameters give the other models of the
    papers: with a penalty on the curvature [2]_, with corrupted inputs [3]_ or with
    weight decay.

    Scale the data first, with MinMaxScaler or StandardScaler: a bounded activation
    can't represent features of very different scales or very large values.

    ``n_hidden``, ``lam``, ``corruption`` with its level, and ``activation`` are the
    parameters to tune first. The others follow in this order: the terms of the model
    (``loss`` to ``n_projections``), the training (``solver`` to ``warm_start``) and the
    computation (``precision`` to ``verbose``).

    Parameters
    ----------
    n_hidden : int or sequence of int, default=64
        Number of hidden units, which is the number of features that `transform`
        returns. In [1, inf). A sequence such as ``(512, 128)`` has the numbers of units
        of the layers of a deep encoder. The decoder mirrors the encoder, and the
        penalty is that of all layers together; the user guide explains its limits.

    lam : float or "auto", default="auto"
        Weight λ of the contraction penalty, in [0, inf). 0 gives a plain autoencoder.
        "auto" chooses the number, ``lam_``, with which the penalty at the start of
        training is a hundredth of the variance that the initial parameters explain.
        This number adapts to the scale of the data, as the best λ does: both terms of
        the objective are sums over features or units. Where training continues, "auto"
        keeps the number of the training before, however that was chosen. For more
        robust features, search among larger values: ``lam_`` times powers of 10 up to
        1000.

    corruption : {"gaussian", "masking"} or None, default=None
        Corruption of the input during training. The model then learns to reconstruct
        the uncorrupted data, as a denoising autoencoder [3]_. "gaussian" adds normal
        noise of standard deviation ``corruption_level``. "masking" sets each feature to
        zero with probability ``corruption_level``. The penalties are computed at the
        corrupted input.

    corruption_level : float, default=0.1
        In [0, inf) for "gaussian", in [0, 1) for "masking", where it is rounded to a
        multiple of 2**-16. Only used if ``corruption`` is not None.

    activation : {"elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "silu", \
            "softplus", "softsign", "tanh"}, default="sigmoid"
        Activation s of the hidden layers.

    loss : {"cross_entropy", "squared_error"}, default="squared_error"
        Reconstruction loss, summed over features. "cross_entropy" treats each feature
        as a probability; it requires data in [0, 1].

    output_activation : {"auto", "identity", "sigmoid"}, default="auto"
        Activation s_out of the reconstruction; "sigmoid" is for data in [0, 1]. "auto"
        is "sigmoid" if ``loss="cross_entropy"``, which requires it, and "identity"
        otherwise.

    tied_weights : bool, default=True
        Whether the decoder weights are V = g Wᵀ, with a fixed number g. Tied weights
        halve the number of parameters, and keep the penalty of one layer meaningful: an
        untied decoder can undo any shrinking of W, so that the penalty can become small
        although the features carry the same information. Let r be the root mean square
        that the initial pre-activations would have with g = 1. g is 1 if r is between
        1/8 and 1, as for most data in [0, 1]. g is r² if r is above 1, so that units
        don't saturate, and (8 r)² if r is below 1/8.

    gamma : float, default=0.0
        Weight γ of the penalty E_ε ‖J(x) - J(x + ε)‖²_F on the encoder's curvature, in
        [0, inf). This is the CAE+H of [2]_, with two draws of ε for each sample and
        step. The penalty needs a smooth activation: the gradient ignores the kinks of
        "relu" and "leaky_relu", and "identity" has no curvature.

    sigma : float, default=0.1
        Standard deviation of the normally distributed ε, in (0, inf), in the units of
        the data. Only used if ``gamma > 0``.

    alpha : float, default=0.0
        Weight of the sum of all squared weights (weight decay), in [0, inf); tied
        weights count once. Unlike that of `~sklearn.neural_network.MLPRegressor`, the
        term isn't divided by the number of samples.

    n_projections : int or None, default=1
        Number of random projections from which each training step computes unbiased
        estimates of a deep encoder's penalties [4]_. In [1, inf). None computes the
        penalties exactly, which takes many times longer, even with ``lam=0``, as
        ``history_`` records the contraction. The penalties of one layer are always
        exact.

    solver : {"adam", "muon"}, default="muon"
        Optimiser. "muon" [5]_ orthogonalises the updates of the weights. It reaches
        lower objectives in less time, although its steps cost more. "adam" [6]_ is for
        layers so wide that the steps of "muon" cost too much. Where the device has
        matrix instructions for bfloat16, "muon" orthogonalises weights of at least 128
        rows and columns in it, unless ``precision="float64"``.

    learning_rate_init : float, default=0.05
        Initial learning rate, in (0, inf). It is relative to the size of the initial
        weights, so that it need not be changed for data of another scale. It is
        constant as long as there is progress, and then falls to zero; see
        ``n_iter_no_change``.

    batch_size : int or "auto", default="auto"
        Number of samples in a gradient step. "auto" is n_samples // 16, but at least
        16 and at most 1024.

    max_iter : int, default=500
        Maximum number of epochs. In [1, inf).

    tol : float, default=0.02
        Improvement of the objective that counts as progress, in [0, inf). It is
        relative to the objective, or to 1% of the variance of X (summed over features)
        if the objective is below that.

    n_iter_no_change : int, default=3
        Number of checks without progress after which the learning rate begins to fall,
        in [1, inf). Progress is checked after about every 16 steps, but at most once an
        epoch, on the mean objective of the epochs since the last check. The rate falls
        linearly to zero, over as many epochs as it was constant. Then training has
        converged.

    early_stopping : bool, default=False
        Whether to watch the objective on held-out samples instead of that on the
        training samples, and to return the parameters for which it was lowest. If
        ``corruption`` is not None, the held-out samples are corrupted too, in the same
        way each time.

    validation_fraction : float, default=0.1
        Fraction of the samples to hold out, in (0, 1). Only used if
        ``early_stopping=True``.

    warm_start : bool, default=False
        Whether `fit` continues from the previous solution. If ``max_iter`` or a
        callback stopped the previous fit, a fit to the same data with the same settings
        resumes it exactly. Any other fit starts from the previous parameters at the
        initial learning rate. To tell whether a memory map larger than 256 MiB is the
        same, `fit` compares about 1000 of its rows.

    precision : {"bfloat16", "float32", "float64"}, default="float32"
        Number format of the computations in training. "bfloat16" keeps the parameters
        and the optimiser's memory in float32. If the device has no matrix instructions
        for bfloat16, training warns and uses float32. `transform` and all other methods
        compute in float32 if their input is float32, and in float64 otherwise.

    device : str or torch.device, default="auto"
        Where to compute: "cpu", "cuda", "cuda:<index>", "mps", or "auto" for CUDA if
        there is a GPU and the CPU otherwise. It may be changed after fit, as the fitted
        attributes are NumPy arrays. "mps" has no float64: training in that precision
        raises an error, and data of that dtype are transformed on the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial parameters, the order of the samples, the corruption, the
        estimates of penalties and the choice of held-out samples. Pass an int for
        reproducible results. See :term:`Glossary <random_state>`.

    verbose : bool or int, default=False
        Whether to print the terms of the objective and the learning rate after each
        epoch, and why training ended.

    Attributes
    ----------
    encoder_coefs_ : list of ndarray of shape (n_features, n_hidden)
        The encoder weights W of each layer.

    encoder_intercepts_ : list of ndarray of shape (n_hidden,)
        The encoder biases b of each layer.

    decoder_coefs_ : list of ndarray of shape (n_hidden, n_features)
        The decoder weights V of each layer. If weights are tied, they are the
        transposes of the encoder's weights, the last one multiplied by g.

    decoder_intercepts_ : list of ndarray of shape (n_features,)
        The decoder biases c of each layer.

    components_ : ndarray of shape (n_hidden, n_features)
        The filters of the first layer, Wᵀ.

    loss_curve_ : ndarray of shape (n_epochs,)
        Objective of each epoch: the mean over its samples, as computed during training.

    history_ : dict of ndarray of shape (n_epochs,)
        Curves by name: "reconstruction"; "contraction", ‖J‖²_F without the factor
        ``lam``; "curvature", without the factor ``gamma``, if ``gamma > 0``; and
        "validation_loss" if ``early_stopping=True``. Epochs in which a quantity wasn't
        computed have NaN. If ``corruption`` is not None, all curves are computed at the
        corrupted input.

    lam_ : float
        The weight λ that was used.

    n_iter_ : int
        Number of epochs run, over all calls that continued the same training.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during :term:`fit`. Defined only when X has feature
        names that are all strings.

    See Also
    --------
    sklearn.decomposition.PCA : Features with the best linear reconstruction.
    sklearn.neural_network.BernoulliRBM : Features from a generative model.

    Notes
    -----
    The fitted state holds NumPy arrays and no tensors: a model fitted on a GPU can be
    unpickled and used on a machine without one.

    With ``sklearn.set_config(array_api_dispatch=True)`` the methods `transform`,
    `inverse_transform`, `score_samples`, `jacobian` and `contraction` compute with
    PyTorch tensors on the tensor's device, whatever ``device`` is. They return tensors
    on that device, without gradients. scikit-learn requires that the environment
    variable ``SCIPY_ARRAY_API=1`` is set before SciPy is imported. The estimator lacks
    the tag ``array_api_support``, which promises fitted attributes in the tensor's
    namespace. Without array API dispatch, tensors are treated as NumPy arrays.

    Hidden features vary little by design. Put a StandardScaler between this estimator
    and a regularised model, which needs features on a common scale.

    A common implementation in Keras takes the mean over features of the squared
    error: its loss is this one's divided by n_features, and its ``lam`` is this
    ``lam`` divided by n_features.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive
       Auto-Encoders: Explicit Invariance During Feature Extraction", ICML 2011.
    .. [2] S. Rifai, G. Mesnil, P. Vincent, X. Muller, Y. Bengio, Y. Dauphin and X.
       Glorot, "Higher Order Contractive Auto-Encoder", ECML PKDD 2011.
    .. [3] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio and P.-A. Manzagol, "Stacked
       Denoising Autoencoders", JMLR 11, 2010.
    .. [4] J. Hoffman, D. A. Roberts and S. Yaida, "Robust Learning with Jacobian
       Regularization", 2019.
    .. [5] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
       2024.
    .. [6] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization",
       ICLR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler, StandardScaler
    >>> from skcae import ContractiveAutoencoderTransformer
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     *load_digits(return_X_y=True), random_state=0
    ... )
    >>> model = make_pipeline(
    ...     MinMaxScaler(),
    ...     ContractiveAutoencoderTransformer(lam=1, random_state=0),
    ...     StandardScaler(),
    ...     LogisticRegression(),
    ... ).fit(X_train, y_train)
    >>> model.score(X_test, y_test) > 0.95
    True
    """

    _parameter_constraints: dict = {
        "n_hidden": [Interval(Integral, 1, None, closed="left"), "array-like"],
        **{
            name: [Interval(Real, 0, None, closed="neither" if is_option else "left")]
            for name, is_option in PARAMETERS.items()
        },
        "lam": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "corruption": [StrOptions(set(CORRUPTIONS)), None],
        "corruption_level": [Interval(Real, 0, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "output_activation": [StrOptions(OUTPUT_ACTIVATIONS)],
        "loss": [StrOptions(set(LOSSES))],
        "tied_weights": ["boolean"],
        "n_projections": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions(set(OPTIMIZERS))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": list(DEVICE_TYPES),
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @hinting(n_components="n_hidden")
    def __init__(
        self,
        n_hidden=64,
        *,
        lam="auto",
        corruption=None,
        corruption_level=0.1,
        activation="sigmoid",
        loss="squared_error",
        output_activation="auto",
        tied_weights=True,
        gamma=0.0,
        sigma=0.1,
        alpha=0.0,
        n_projections=1,
        solver="muon",
        learning_rate_init=0.05,
        batch_size="auto",
        max_iter=500,
        tol=0.02,
        n_iter_no_change=3,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        precision="float32",
        device="auto",
        random_state=None,
        verbose=False,
    ):
        self.n_hidden = n_hidden
        self.lam = lam
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.activation = activation
        self.loss = loss
        self.output_activation = output_activation
        self.tied_weights = tied_weights
        self.gamma = gamma
        self.sigma = sigma
        self.alpha = alpha
        self.n_projections = n_projections
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @taking_part
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the model to the data.

        Ctrl-C stops the training with a warning and keeps the last finished epoch. In
        `skcae.distributed.data_parallel`, X is this process's shard of the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. It is not modified.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in all means of the objective, in [0, inf); only
            their ratios matter. A weight of 0 is as good as no sample, and a whole
            number as good as so many equal samples, but for which of them share a
            batch. None is 1 for each. Weights that differ make the steps of one layer
            take two to three times as long.

        Returns
        -------
        self : ContractiveAutoencoderTransformer
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or if the objective becomes
            infinite or NaN. An estimator that was fitted before stays as it was.
        MemoryError
            If ``n_hidden`` or ``batch_size`` are too large for the memory. Here, too,
            an estimator that was fitted before stays as it was.

        Warns
        -----
        ConvergenceWarning
            If training reached ``max_iter`` before it converged.
        UserWarning
            If the reconstruction explains less than a tenth of the variation of X, for
            example because ``lam`` is far too large. For the squared error the
            variation is the variance, and for the cross-entropy the difference between
            the loss of a constant reconstruction and that of a perfect one. There is no
            such warning with corruption. Further, if rounding X to ``precision`` loses
            more than a tenth of its variance; if X has values outside of [0, 1], which
            ``output_activation="sigmoid"`` can't reconstruct; if the device has no
            instructions for ``precision="bfloat16"``; if training continues but can't
            hold out the same samples as before; or if training was interrupted.
        """
        context = self._init_callback_context(max_subtasks=self.max_iter)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        continues = self.warm_start and self.__sklearn_is_fitted__()
        with all_or_nothing(self):
            data, validation, rng = self._data(X, sample_weight, continues)
            rows, _ = data
            explained = partial(self._explained_failure, rows)
            with explained():
                training = self._start(data, rng, continues, validation)
            why = run_with_callbacks(training, self, context, explained, X, y)
            vars(self).update(self._fitted_attributes(training, why))
        if self.verbose:
            print(f"Stopped after {self.n_iter_} epochs: {why}")
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=dict
        )
        if why == "max_iter":
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the optimization "
                "hasn't converged yet. Increase max_iter or tol.",
                ConvergenceWarning,
            )
        elif why == "interrupt":
            warnings.warn("Training interrupted by user.")
        self._warn_of_poor_reconstruction(training, rows)
        return self

    @available_if(_early_stopping_is_off)
    @taking_part
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train for one epoch on a chunk of the data.

        Training continues from the current parameters. Convergence isn't checked. The
        first call computes the initial parameters from its chunk, which should have
        several hundred rows. The learning rate is always ``learning_rate_init``, so
        that a lower value than for `fit` is better. Callbacks are called by `fit` only.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. It is not modified.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            As for `fit`; the ratios are those within the chunk.

        Returns
        -------
        self : ContractiveAutoencoderTransformer
            The fitted estimator.

        Raises
        ------
        ValueError
            As for `fit`.
        MemoryError
            As for `fit`.
        AttributeError
            If ``early_stopping=True``, which only `fit` supports.

        Warns
        -----
        UserWarning
            If rounding X to ``precision`` loses more than a tenth of its variance, or
            if the device has no instructions for ``precision="bfloat16"``.
        """
        # _fit_context doesn't validate when the estimator is fitted.
        self._validate_params()
        continues = self.__sklearn_is_fitted__()
        with all_or_nothing(self):
            data, _, rng = self._data(X, sample_weight, continues)
            with self._explained_failure(data[0]):
                training = self._start(data, rng, continues, keeps_optimizer=True)
                training.epoch()
            vars(self).update(self._fitted_attributes(training))
            self._training_state = state_of(self, training)
        return self

    def _data(self, X, sample_weight, continues):
        """Return (rows, weights) to train on, those held out or None, and the RNG."""
        self._settings()
        rows = validated(self, as_array(X), order="C", reset=not continues)
        check_range(rows, self.loss)
        weights = validated_weights(sample_weight, len(rows))
        rows, weights = without_zeros(rows, weights)
        rng = check_random_state(self.random_state)
        if not self.early_stopping:
            return (rows, weights), None, rng
        self._split = self._how_to_split(len(rows), rng, continues)
        fraction, seed = self._split["fraction"], self._split["seed"]
        parts = split(len(rows), fraction, make_generator(seed))
        data, held_out = (
            (rows.take(part), None if weights is None else weights[part])
            for part in parts
        )
        return data, held_out, rng

    def _how_to_split(self, n_samples, rng, continues):
        """Return the settings that determine which rows are held out, by name.

        Training that continues holds out the same rows, so that it is never validated
        on rows that it was trained on. That is impossible if the number of rows or
        ``validation_fraction`` has changed.
        """
        group = current_group()
        now = {
            "seed": group.gather(int(rng.randint(np.iinfo(np.int32).max)))[0],
            "sizes": group.gather(n_samples),
            "fraction": float(self.validation_fraction),
        }
        before = getattr(self, "_split", None) if continues else None
        if all(group.gather(before == {**now, "seed": (before or now)["seed"]})):
            return before
        if before is not None:
            texts = (
                f"{' + '.join(map(str, how['sizes']))} and {how['fraction']}"
                for how in (now, before)
            )
            warnings.warn(
                "The held-out samples are drawn anew, since the number of samples (of "
                "each process) or validation_fraction has changed: "
                f"{', but '.join(texts)} before. The model may have been trained on "
                "some of these samples, on which the validation loss is too low."
            )
        return now

    def _start(self, data, rng, continues, validation=None, *, keeps_optimizer=False):
        """Return the `Training` to run: a new one, or the continuation of the last."""
        rows, weights = data
        architecture = self._new_architecture(rows.shape[1])
        if 8 * math.prod(largest_layer(architecture)) > sys.maxsize:
            raise MemoryError(self._out_of_memory(rows))
        if continues:
            check_same_architecture(self, architecture)
        group = current_group()
        n_earlier = self.n_iter_ if continues else 0
        n_samples = agreed_n_samples(self, rows, group, n_earlier)
        past = past_of(self, rows, weights, group, continues, keeps_optimizer)
        settings = self._settings()
        if continues:
            architecture = self._fitted_architecture
            if settings["lam"] is None:
                settings["lam"] = self.lam_
        precision = self._usable_precision(settings["device"])
        self._warn_of_rounding(rows, precision)
        trainer = Trainer(
            architecture,
            rows,
            past.fitted,
            batch_size=steps_batch_size(self.batch_size, n_samples),
            precision=precision,
            seed=rng.randint(np.iinfo(np.int32).max),
            weights=weights,
            group=group,
            only_these_rows=past.only_these_rows,
            **settings,
        )
        return past.training(
            trainer,
            self._curve_names(),
            tol=float(self.tol),
            patience=self.n_iter_no_change,
            validation=validation,
            verbose=self.verbose,
        )

    def _curve_names(self):
        """Return the names of the curves in ``history_``."""
        names = ["reconstruction", *reported(self._penalty_settings())]
        return names + (["validation_loss"] if self.early_stopping else [])

    def _penalty_settings(self):
        """Return the weights and the other parameters of the penalties, by name.

        A weight that is still to be chosen is None.
        """
        return {
            name: None if value == "auto" else float(value)
            for name, value in ((name, getattr(self, name)) for name in PARAMETERS)
        }

    def _usable_precision(self, device):
        if self.precision == "float64" and not has_float64(device):
            raise ValueError(
                f"precision='float64' is not available on this device ({device}). Use "
                "precision='float32', or device='cpu'."
            )
        if self.precision == "bfloat16" and not has_fast_bfloat16(device):
            warnings.warn(
                f"precision='bfloat16' is emulated on this device ({device}), several "
                "times slower than precision='float32', which is used instead."
            )
            return "float32"
        return self.precision

    def _warn_of_rounding(self, rows, precision):
        lost = lost_in_rounding(rows, PRECISIONS[precision])
        # Overflow is not rounding; training reports it.
        if not _TOO_COARSE < lost < np.inf:
            return
        scale = "StandardScaler after X.toarray()" if rows.sparse else scalers(rows)
        warnings.warn(
            f"Rounding X to precision={precision!r} for training loses "
            f"{min(lost, 1):.0%} of its variance, since its values differ little or "
            f"not at all in that precision. Scale X, with {scale}, or use "
            "precision='float64'."
        )

    def _settings(self):
        """Return the parameters that don't depend on the data, by the engine's names.

        Raises ValueError if they are invalid in a way that `_parameter_constraints`
        can't express.
        """
        loss = LOSSES[self.loss]
        output_activation = self._output_activation()
        if output_activation not in loss.output_activations:
            raise ValueError(
                f"loss={self.loss!r} requires output_activation to be one of "
                f"{('auto', *loss.output_activations)}. Got {output_activation!r} "
                "instead."
            )
        check_corruption(self.corruption, self.corruption_level)
        penalties = self._penalty_settings()
        check_penalties(penalties, self.activation)
        return {
            "loss": self.loss,
            **penalties,
            "alpha": float(self.alpha),
            "corruption": self.corruption,
            "corruption_level": float(self.corruption_level),
            "n_projections": self.n_projections and int(self.n_projections),
            "optimizer": self.solver,
            "learning_rate": float(self.learning_rate_init),
            "device": resolve_device(self.device),
        }

    def _output_activation(self):
        """Return the output activation, with "auto" resolved."""
        if self.output_activation == "auto":
            return LOSSES[self.loss].default_output
        return self.output_activation

    def _new_architecture(self, n_features):
        """Return the architecture of a fit to ``n_features`` features."""
        return Architecture(
            (n_features, *self._hidden_sizes()),
            self.activation,
            self._output_activation(),
            bool(self.tied_weights),
        )

    def _hidden_sizes(self):
        """Return the number of units of each layer of the encoder."""
        n_hidden = self.n_hidden
        # An array without dimensions can't be iterated, and isn't an int either.
        is_one = (
            isinstance(n_hidden, Integral) or getattr(n_hidden, "shape", None) == ()
        )
        sizes = [n_hidden] if is_one else list(n_hidden)
        has_order = not isinstance(n_hidden, (Mapping, Set))
        if not (sizes and has_order) or not all(
            isinstance(size, Integral) and not isinstance(size, bool) and size >= 1
            for size in sizes
        ):
            raise ValueError(
                "n_hidden must be an int in the range [1, inf) or a non-empty sequence "
                f"of such ints. Got {n_hidden!r} instead."
            )
        return tuple(map(int, sizes))

    def _fitted_attributes(self, training, why=None):
        """Return the fitted attributes; ``why`` is the reason why training ended."""
        trainer = training.trainer
        arrays = trainer.arrays(training.progress.kept)
        history = training.curves()
        loss_curve = history.pop("objective")
        # An interrupted training can't be resumed exactly: the interrupt may have come
        # in the middle of an epoch.
        ended = why == "interrupt" or training.schedule.converged
        return {
            "encoder_coefs_": arrays.encoder_weights,
            "encoder_intercepts_": arrays.encoder_biases,
            "decoder_coefs_": arrays.decoder_weights,
            "decoder_intercepts_": arrays.decoder_biases,
            "loss_curve_": loss_curve,
            "history_": history,
            "n_iter_": len(loss_curve),
            "lam_": trainer.settings["lam"],
            "_architecture": tuple(trainer.architecture),
            "_loss": trainer.loss,
            "_training_state": (
                state_of(self, training) if self.warm_start and not ended else None
            ),
        }

    def _warn_of_poor_reconstruction(self, training, rows):
        unit_interval = LOSSES[self._loss].unit_interval
        if (
            self._fitted_architecture.output_activation == "sigmoid"
            and not unit_interval
            and (values := beyond_unit_interval(rows))
        ):
            warnings.warn(
                "The reconstruction explains nothing beyond [0, 1], the range of "
                f"output_activation='sigmoid'. Got X with values {values}; scale X, "
                f"with {unit_scaler(rows)} say, or use output_activation='identity'."
            )
            return
        if self.corruption is not None:  # The model was trained on other inputs than X.
            return
        trainer = training.trainer
        explained, saturated = trainer.explained(self._arrays, rows)
        if explained is None or explained >= 1 - _UNLEARNT:
            return
        of_what = "variation of X (by cross-entropy)" if unit_interval else "variance"
        advice = []
        balanced = trainer.balanced_lam
        if balanced and self.lam_ > _FAR_ABOVE * balanced:
            advice.append(
                f"lam is {self.lam_ / balanced:.2g} times the {balanced:.3g} of "
                "lam='auto': lower it"
            )
        if unit_interval:
            advice.append(
                f"scale X, with {unit_scaler(rows)}, if it fills little of [0, 1]"
            )
        in_use = {**self._weights_in_use(), "alpha": self.alpha > 0, "lam": False}
        if any(in_use.values()):
            advice.append(f"lower {to_lower(self, **in_use)}")
        reason = (
            f"as {saturated:.0%} of the activations are saturated, "
            if saturated > 0.5
            else ""
        )
        advice.append(
            f"{reason}lower learning_rate_init ({self.learning_rate_init}) or raise "
            f"n_hidden ({self.n_hidden})"
        )
        warnings.warn(
            f"The reconstruction explains {max(0, explained):.1%} of the {of_what}: "
            "the features keep next to nothing of it. Try, in this order: "
            f"{'; or '.join(advice)}."
        )

    def _weights_in_use(self):
        """Return whether the weight of each penalty isn't 0, by the weight's name."""
        return {p.weight: getattr(self, p.weight) != 0 for p in PENALTIES.values()}

    def _explained_failure(self, rows):
        """Return the context that makes errors of training say what to change."""
        return explained_failure(
            partial(self._diverged, rows), self._out_of_memory(rows)
        )

    def _diverged(self, rows, error):
        in_use = self._weights_in_use()
        # The weight that "auto" chooses is too small to be the cause.
        in_use["lam"] &= self.lam != "auto"
        options = {
            name: in_use[p.weight] for p in PENALTIES.values() for name in p.options
        }
        lower = to_lower(
            self,
            learning_rate_init=True,
            alpha=self.alpha > 0,
            **in_use,
            **options,
            corruption_level=self.corruption is not None,
        )
        return (
            f"Training diverged: {error}. The largest absolute value in X is "
            f"{max(abs(float(v)) for v in rows.extremes()):.3g}. Scale X, with "
            f"{scalers(rows)} say, or lower {lower}."
        )

    def _out_of_memory(self, rows):
        return (
            f"There is not enough memory to train with n_hidden={self.n_hidden!r} and "
            f"batch_size={self.batch_size!r} on X with {rows.shape[1]} features."
        )

    # Methods of the fitted model

    def transform(self, X):
        """Encode the data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data to encode.

        Returns
        -------
        H : ndarray of shape (n_samples, n_hidden)
            The hidden representation h(x) = s(x W + b), in float32 if X is, else in
            float64.
        """
        rows = self._validate_rows_or_tensor(X)
        return self._map_rows(inference.code, rows, ["encoder"], takes_sparse=True)

    def inverse_transform(self, X):
        """Decode hidden representations.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_hidden)
            Hidden representations: the output of `transform`, or any points of the
            hidden space.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            The reconstructions, in float32 if X is, else in float64.
        """
        check_is_fitted(self)
        X, types = array_or_tensor(X)
        X = validated_codes(self, X, dtype=types)
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__}."
                f"inverse_transform is expecting {self._n_features_out} features as "
                "input."
            )
        return self._map_rows(inference.decoded, X, ["decoder"])

    def score_samples(self, X):
        """Compute minus the reconstruction loss of each sample.

        Low values mark samples unlike those that the model was fitted to. With
        ``loss="cross_entropy"`` the loss is at least the entropy of the sample itself.
        Scores of different samples are then comparable only if the samples' values are
        about equally close to 0 and 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data; in [0, 1] if ``loss="cross_entropy"``.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the loss, summed over features, without penalties.
        """
        X = self._validate_rows_or_tensor(X)
        check_range(X, self._loss)
        function = inference.reconstruction_loss(self._loss)
        output = self._fitted_architecture.output_activation
        takes_sparse = is_expandable(self._loss, output)
        return -self._map_rows(function, X, takes_sparse=takes_sparse)

    def score(self, X, y=None):
        """Compute the mean of `score_samples`: higher is better.

        The score doesn't include the penalty. A search for the ``lam`` with the best
        score therefore ends at 0, or near 0 if the penalty helps against overfitting.
        To choose ``lam``, score the task that the features are for.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data; in [0, 1] if ``loss="cross_entropy"``.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        score : float
            Minus the reconstruction loss, summed over features and averaged over
            samples.
        """
        return float(self.score_samples(X).mean())

    def jacobian(self, X):
        """Compute the Jacobian of the encoder at each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        jacobians : ndarray of shape (n_samples, n_hidden, n_features)
            ``jacobians[n, j, i]`` is ∂h_j/∂x_i at sample n.
        """
        X = self._validate_rows_or_tensor(X)
        entries = max(self._fitted_architecture.sizes) * self.n_features_in_
        return self._map_rows(jacobian, X, entries_per_row=entries)

    def contraction(self, X):
        """Compute the penalty ‖J(x)‖²_F of each sample, without its Jacobian.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        norms : ndarray of shape (n_samples,)
            Squared Frobenius norms of the encoder's Jacobian. They say how sensitive
            the hidden representation is to the input.
        """
        X = self._validate_rows_or_tensor(X)
        entries = entries_per_row(self._fitted_architecture)
        return self._map_rows(
            contraction, X, entries_per_row=entries, takes_sparse=True
        )

    def _validate_rows(self, X, **kwargs):
        check_is_fitted(self)
        return validated(self, as_array(X), reset=False, **kwargs)

    def _validate_rows_or_tensor(self, X):
        check_is_fitted(self)
        X, types = array_or_tensor(X)
        return validated(self, X, dtype=types, reset=False)

    def _map_rows(self, function, X, parts=("encoder", "decoder"), **kwargs):
        """Apply an engine function to the rows, with these parts of the parameters."""
        rows = as_rows(X)
        arrays = Parameters(
            *(
                getattr(self, f"{part}_{kind}_") if part in parts else []
                for part in ("encoder", "decoder")
                for kind in ("coefs", "intercepts")
            )
        )
        try:
            return inference.map_rows(
                function,
                self._fitted_architecture,
                arrays,
                rows,
                device=resolve_device(self.device),
                **kwargs,
            )
        except FloatingPointError as error:
            raise ValueError(
                f"X is too large: {error}. Scale X as before fit, with "
                f"{scalers(rows)} say."
            ) from error

    # Views of the fitted attributes

    @property
    def components_(self):
        """Filters of the first layer, shape (n_hidden, n_features)."""
        check_is_fitted(self)
        return self.encoder_coefs_[0].T

    @property
    def _arrays(self):
        return Parameters(
            self.encoder_coefs_,
            self.encoder_intercepts_,
            self.decoder_coefs_,
            self.decoder_intercepts_,
        )

    @property
    def _fitted_architecture(self):
        # A plain tuple is stored so that a pickle doesn't depend on the engine.
        return Architecture(*self._architecture)

    @property
    def _n_features_out(self):
        return self.encoder_coefs_[-1].shape[1]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "encoder_coefs_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
