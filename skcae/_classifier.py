"""A classifier that starts from a contractive autoencoder."""

import warnings
from functools import cache, partial
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._compat import CallbackSupportMixin, with_callbacks
from ._epochs import (
    Schedule,
    Training,
    all_or_nothing,
    explained_failure,
    run_with_callbacks,
    steps_batch_size,
    to_lower,
)
from ._pickles import StampedMixin
from ._pretraining import TRANSFORMERS, Pretraining
from ._spreading import most_samples, spread_labels
from ._validation import scalers, validated, validated_weights, without_zeros
from .engine import finetuning, geometry, inference
from .engine.corruption import CORRUPTIONS, check_corruption
from .engine.device import DEVICE_TYPES, PRECISIONS, resolve_device
from .engine.distributed import current_group
from .engine.network import Parameters
from .engine.optimizer import OPTIMIZERS
from .engine.rows import as_array

# A classifier has learned nothing useful if its cross-entropy is above this fraction of
# that of constant probabilities.
_UNLEARNT = 0.98


class _Samples(NamedTuple):
    """The samples of a fit, and what is known of their classes.

    Attributes
    ----------
    rows : Rows
        All samples.
    weights : ndarray or None
        Weights of all samples.
    labelled : ndarray
        Numbers of the rows that have a label, ascending.
    labels : ndarray
        Numbers of their classes.
    class_weights : ndarray
        Weights of the classes.
    parts : list of ndarray
        Places in ``labelled`` of the samples to train on and, if any, of those to hold
        out, ascending.
    """

    rows: object
    weights: object
    labelled: np.ndarray
    labels: np.ndarray
    class_weights: np.ndarray
    parts: list


class ContractiveAutoencoderClassifier(
    ClassifierMixin, StampedMixin, CallbackSupportMixin, BaseEstimator
):
    """Neural network classifier, pretrained as a contractive autoencoder.

    A contractive autoencoder is fitted to all samples, labelled and unlabelled. Its
    encoder, with a softmax layer on top, is then fine-tuned to minimise the mean
    cross-entropy of the labelled samples [1]_, and of the others with class
    probabilities that spread to them: see ``label_spreading``. With
    ``tangent_weight > 0`` the model is the Manifold Tangent Classifier [2]_, whose
    objective has the additional penalty

    .. math::
        \\mathrm{tangent\\_weight} \\sum_{u \\in B(x)}
        \\left\\lVert \\frac{\\partial o}{\\partial x}(x) \\, u \\right\\rVert^2

    It penalises changes of the class probabilities o along the tangents B(x) of the
    manifold that the autoencoder has learned, near which the data lie.

    Parameters
    ----------
    transformer : ContractiveAutoencoderTransformer, Pipeline, FrozenEstimator or \
            None, default=None
        The model to pretrain; a clone of it is fitted. None means a transformer with
        default parameters. A `~sklearn.pipeline.Pipeline` of transformers is pretrained
        layer by layer; see `skcae.stacking.stack` for the steps that it may have. To
        start from an autoencoder or a pipeline that is already fitted, pass
        ``FrozenEstimator(fitted)``; the fitted model isn't changed. Fine-tuning uses
        the ``precision`` of the transformer, or of the first transformer in a pipeline.

    tangent_weight : float, default=0.0
        Weight of the tangent penalty, in [0, inf). With more than three classes, each
        step computes an unbiased estimate of the penalty from two combinations of the
        classes [4]_. With Adam, a step with the penalty takes three to five times as
        long as a step without it. ``n_tangents`` hardly affects the time, unless it is
        large compared with the number of units.

    n_tangents : int, default=8
        Number of tangents at each sample. The tangents are the leading right singular
        vectors of the pretrained encoder's Jacobian, computed once by subspace
        iteration. The number must be at least 1, and at most the smallest of the number
        of features and the layers' numbers of units. Only used if
        ``tangent_weight > 0``. The tangents take ``4 * n_tangents * n_features`` bytes
        for each sample of fine-tuning, or twice as many if ``precision="float64"``.

    label_spreading : bool, default=True
        Whether samples without a label take part in fine-tuning, with class
        probabilities. These combine what spreads along a graph of nearest neighbours
        [5]_ and what a network says that was trained on the labelled samples; how far
        each is trusted is measured on labelled samples that are held out. The
        probabilities are learnt with normal noise, unless there is a ``corruption`` or
        X stays sparse. Scale X so that distances mean something. Fine-tuning takes some
        ten times as long, besides the search for neighbours, in which at most
        sqrt(3e12 / n_features) samples take part, which are held in memory. Where more
        than half as many have a label, the others only take part in pretraining.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes ``{label: weight}``, in (0, inf). Classes that are not
        named have weight 1. "balanced" makes the weights inversely proportional to the
        numbers of labelled samples. Only the ratios of the weights matter; these must
        be in the range of float32. A weight of 2 is equivalent to having each sample of
        the class twice, up to the random composition of batches.

    alpha : float, default=0.0
        Weight of the sum of all squared weights (weight decay) in fine-tuning, in
        [0, inf).

    corruption : {"gaussian", "masking"} or None, default=None
        Corruption of the input during fine-tuning. "gaussian" adds normal noise of
        standard deviation ``corruption_level``, so that the predictions depend less on
        small changes of the input [3]_. "masking" sets each feature to zero with
        probability ``corruption_level``, so that the predictions depend less on single
        features. The tangent penalty is computed at the corrupted input, along the
        tangents at the uncorrupted one. Pretraining uses the transformer's own
        ``corruption``.

    corruption_level : float, default=0.1
        In [0, inf) for "gaussian", in [0, 1) for "masking", where it is rounded to a
        multiple of 2**-16. Only used if ``corruption`` is not None.

    solver : {"adam", "muon"}, default="muon"
        Optimiser of fine-tuning; see `ContractiveAutoencoderTransformer`.

    learning_rate_init : float, default=0.02
        Initial learning rate of fine-tuning, in (0, inf). It is constant as long as
        there is progress, and then falls to zero; see ``n_iter_no_change``.

    batch_size : int or "auto", default="auto"
        Number of samples in a gradient step. "auto" is a sixteenth of all samples of
        fine-tuning, but at least 16 and at most 1024.

    max_iter : int, default=500
        Maximum number of epochs of fine-tuning. In [1, inf).

    tol : float, default=0.01
        Improvement of the objective that counts as progress, in [0, inf). It is
        relative to the objective if that is above 1, and absolute otherwise.

    n_iter_no_change : int, default=5
        Number of checks without progress after which the learning rate begins to fall,
        as in `ContractiveAutoencoderTransformer`. In [1, inf).

    early_stopping : bool, default=False
        Whether to watch the cross-entropy on held-out labelled samples instead of the
        objective on the training samples, and to return the parameters for which it
        was lowest. The held-out samples are not corrupted. The autoencoder is fitted to
        the held-out samples too, without their labels.

    validation_fraction : float, default=0.1
        Fraction of the labelled samples to hold out, in (0, 1), the same for each
        class. Only used if ``early_stopping=True``.

    device : str or torch.device, default="auto"
        Where to fine-tune and predict: "cpu", "cuda", "cuda:<index>", "mps", or "auto"
        for CUDA if there is a GPU and the CPU otherwise. The transformer has its own
        ``device``.

    random_state : int, RandomState instance or None, default=None
        Seeds the order of the samples, the corruption, the estimates of the tangent
        penalty and the choice of held-out samples. It also seeds the transformer, or
        all transformers of a pipeline alike, unless they have a ``random_state`` of
        their own. Pass an int for reproducible results. See :term:`Glossary
        <random_state>`.

    verbose : bool or int, default=False
        Whether to print the terms of the objective and the learning rate after each
        epoch of fine-tuning, and why fine-tuning ended. The transformer has its own
        ``verbose``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    transformer_ : ContractiveAutoencoderTransformer
        The pretrained autoencoder. For a pipeline it is the result of
        `skcae.stacking.stack`, which doesn't have the curves of the layers' training.
        To keep these, fit the pipeline first and pass ``FrozenEstimator(pipeline)``.

    coefs_ : list of ndarray of shape (fan_in, fan_out)
        The weights of each layer after fine-tuning: those of the encoder, then those of
        the softmax layer.

    intercepts_ : list of ndarray of shape (fan_out,)
        The biases of each layer.

    loss_curve_ : ndarray of shape (n_epochs,)
        Objective of each epoch of fine-tuning: the mean over its samples, as computed
        during training, at the corrupted input if ``corruption`` is not None.

    history_ : dict of ndarray of shape (n_epochs,)
        Curves by name: "cross_entropy"; "tangent", the estimated penalty without its
        weight, if ``tangent_weight > 0``; and "validation_loss" if
        ``early_stopping=True``. If ``corruption`` is not None, only "validation_loss"
        is computed on uncorrupted samples.

    n_iter_ : int
        Number of epochs of fine-tuning run.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during :term:`fit`. Defined only when X has feature
        names that are all strings.

    See Also
    --------
    ContractiveAutoencoderTransformer : The features alone, for use with any classifier.
    sklearn.neural_network.MLPClassifier : The same network without pretraining.

    Notes
    -----
    The label −1 marks samples without a label, as in `sklearn.semi_supervised`. If the
    only labels are −1 and 1, however, −1 is a class, as in other classifiers. An array
    of strings and −1 needs the dtype object: in any other dtype −1 becomes a string,
    which is a class (with a warning).

    X may be a memory map (``numpy.load(..., mmap_mode="r")``) that is larger than
    memory. Labels and tangents are held in memory. The outputs of all layers of a
    pipeline but the last, for all samples, are held in memory too.

    The fitted state holds NumPy arrays and no tensors: a model fitted on a GPU can be
    unpickled and used on a machine without one.

    References
    ----------
    .. [1] S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive
       Auto-Encoders: Explicit Invariance During Feature Extraction", ICML 2011.
    .. [2] S. Rifai, Y. Dauphin, P. Vincent, Y. Bengio and X. Muller, "The Manifold
       Tangent Classifier", NIPS 2011.
    .. [3] C. M. Bishop, "Training with Noise is Equivalent to Tikhonov Regularization",
       Neural Computation 7, 1995.
    .. [4] R. A. Meyer, C. Musco, C. Musco and D. P. Woodruff, "Hutch++: Optimal
       Stochastic Trace Estimation", SOSA 2021.
    .. [5] D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schölkopf, "Learning with
       Local and Global Consistency", NIPS 2003.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skcae import ContractiveAutoencoderClassifier
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     *load_digits(return_X_y=True), random_state=0
    ... )
    >>> y_train[200:] = -1  # no label
    >>> model = make_pipeline(
    ...     MinMaxScaler(), ContractiveAutoencoderClassifier(random_state=0)
    ... ).fit(X_train, y_train)
    >>> model.score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "transformer": TRANSFORMERS,
        "tangent_weight": [Interval(Real, 0, None, closed="left")],
        "n_tangents": [Interval(Integral, 1, None, closed="left")],
        "label_spreading": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "corruption": [StrOptions(set(CORRUPTIONS)), None],
        "corruption_level": [Interval(Real, 0, None, closed="left")],
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
        "device": list(DEVICE_TYPES),
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        transformer=None,
        *,
        tangent_weight=0.0,
        n_tangents=8,
        label_spreading=True,
        class_weight=None,
        alpha=0.0,
        corruption=None,
        corruption_level=0.1,
        solver="muon",
        learning_rate_init=0.02,
        batch_size="auto",
        max_iter=500,
        tol=0.01,
        n_iter_no_change=5,
        early_stopping=False,
        validation_fraction=0.1,
        device="auto",
        random_state=None,
        verbose=False,
    ):
        self.transformer = transformer
        self.tangent_weight = tangent_weight
        self.n_tangents = n_tangents
        self.label_spreading = label_spreading
        self.class_weight = class_weight
        self.alpha = alpha
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the autoencoder to all samples, then the classifier.

        Ctrl-C stops the current phase (the training of an autoencoder, or fine-tuning)
        with a warning, and keeps the phase's last finished epoch. While labels spread
        there is nothing to keep: KeyboardInterrupt is raised, and the estimator stays
        as it was. Callbacks are called for the epochs of the last fine-tuning, with the
        labelled samples only.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. It is not modified.
        y : array-like of shape (n_samples,)
            Class labels; −1 for samples without one, unless the labels are −1 and 1.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in [0, inf), in the autoencoder's training as well;
            only their ratios matter. A sample of weight 0 is left out. Of a labelled
            one the weight multiplies that of its class. None is 1 for each.

        Returns
        -------
        self : ContractiveAutoencoderClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, if there are labels of fewer than
            two classes, or if an objective becomes infinite or NaN. An estimator that
            was fitted before stays as it was.
        MemoryError
            If there is not enough memory for the network and a batch. Here, too, an
            estimator that was fitted before stays as it was.
        NotImplementedError
            In `skcae.distributed.data_parallel` with more than one process.

        Warns
        -----
        ConvergenceWarning
            If fine-tuning or the autoencoder's training reached its ``max_iter``
            before it converged.
        UserWarning
            If fine-tuning converged but learned next to nothing: the cross-entropy (of
            the held-out samples if ``early_stopping=True``) is less than 2% below that
            of constant probabilities, the class frequencies of the training samples; if
            training was interrupted; if some samples, but fewer than half of them,
            count as unlabelled; if one of the labels is the string "-1", unless the
            only other label is "1" or "+1"; or if the transformer warns.
        """
        if current_group().size > 1:
            raise NotImplementedError(
                f"{type(self).__name__} can't be fitted in data_parallel. Fit a "
                "ContractiveAutoencoderTransformer there, and pass it as "
                "FrozenEstimator to a classifier that is fitted outside."
            )
        context = self._init_callback_context(max_subtasks=self.max_iter)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        with all_or_nothing(self):
            # All that can be wrong is found out before the hours of training.
            X, rows, weights, labelled, labels = self._validated(X, y, sample_weight)
            rng = check_random_state(self.random_state)
            class_weights = self._class_weights(weights, labelled, labels)
            parts = self._parts(labels, rng)
            samples = _Samples(rows, weights, labelled, labels, class_weights, parts)
            data, validation_data = self._labelled_data(samples)
            seed = rng.randint(np.iinfo(np.int32).max)
            pretraining = Pretraining(self.transformer, X, rows.shape[1], seed)
            self._check_n_tangents(pretraining.sizes)
            device = resolve_device(self.device)
            precision = pretraining.first._usable_precision(device)
            self.transformer_ = pretraining.run(X, weights)
            explained = partial(
                explained_failure,
                partial(self._diverged, rows),
                self._out_of_memory(),
            )
            start = partial(self._start, rng=rng, precision=precision, device=device)
            to_learn, level = data, 0.0
            if self.label_spreading and self._spreads(samples):
                network = partial(self._network, start, explained)
                to_learn, level = self._spread_data(samples, network, device, rng)
            with explained():
                training = start(
                    to_learn, validation_data, level=level, verbose=self.verbose
                )
            # The labelled rows are copied only if a callback asks for them.
            X = cache(partial(self._labelled_rows, X, rows, labelled, data))
            y = self.classes_[labels]
            why = run_with_callbacks(training, self, context, explained, X, y)
            vars(self).update(self._fitted_attributes(training))
        if self.verbose:
            print(f"Stopped after {self.n_iter_} epochs: {why}")
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=dict
        )
        if why == "max_iter":
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) of fine-tuning reached and the "
                "optimization hasn't converged yet. Increase max_iter or tol.",
                ConvergenceWarning,
            )
        elif why == "interrupt":
            warnings.warn("Fine-tuning interrupted by user.")
        elif why == "convergence":
            self._warn_of_unlearnt_classes(training, to_learn, validation_data)
        return self

    def _validated(self, X, y, sample_weight):
        """Return X, its rows and weights, the labelled rows' and classes' numbers.

        Rows without a weight are left out of all of them.
        """
        check_corruption(self.corruption, self.corruption_level)
        rows, y = validated(self, as_array(X), as_array(y), order="C")
        weights = validated_weights(sample_weight, len(rows))
        if weights is not None and not weights.all():
            kept = np.flatnonzero(weights)
            X, y = _safe_indexing(X, kept), y[kept]
            rows, weights = without_zeros(rows, weights)
        has_label = np.asarray(y != -1, dtype=bool)
        if 0 < has_label.sum() < len(y) and (y[has_label] == 1).all():
            has_label[:] = True
        labelled = np.flatnonzero(has_label)
        if len(labelled) == 0:
            raise ValueError("y has no labels: all of them are -1.")
        try:
            check_classification_targets(y[labelled])
        except (TypeError, ValueError) as error:
            if y.dtype != object:
                raise
            raise ValueError(
                "y must have labels of one type. If its dtype is object, they must be "
                "strings, except for the number -1 of samples without a label: "
                f"{error}"
            ) from error
        self.classes_, labels = np.unique(y[labelled], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs labels of at least two classes. Got one "
                f"class only: {self.classes_.tolist()[0]!r}. The label -1 marks "
                "samples without one, unless the labels are -1 and 1."
            )
        n_unlabelled = len(y) - len(labelled)
        counted = f"{n_unlabelled} of {len(y)} samples have the label -1"
        if self.verbose:
            print(f"{counted}, and count as unlabelled")
        if 0 < n_unlabelled < len(y) / 2:
            warnings.warn(
                f"{counted}, which is not a class here: they count as unlabelled. If "
                "-1 is one of your classes, give it another label."
            )
        names = set(self.classes_.tolist())
        if "-1" in names and names not in ({"-1", "1"}, {"-1", "+1"}):
            warnings.warn(
                "The label '-1' is a string, and so a class. Samples without a label "
                "are marked by the number -1, in an array of dtype object."
            )
        return X, rows, weights, labelled, labels

    def _class_weights(self, sample_weight, labelled, labels):
        """Return the weights of the classes, the largest of which is 1."""
        if isinstance(self.class_weight, dict):
            named, known = set(self.class_weight), set(self.classes_.tolist())
            # As in scikit-learn, other labels may be named if all labels of y are.
            if named - known and known - named:
                raise ValueError(
                    "class_weight must have labels of y as keys, which are "
                    f"{self.classes_.tolist()}. Got {self.class_weight!r} instead."
                )
        try:
            weights = compute_class_weight(
                self.class_weight, classes=self.classes_, y=self.classes_[labels]
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                "class_weight must have labels of y as keys and weights in the range "
                f"(0, inf) of float64 as values: {error}"
            ) from error
        if not (np.isfinite(weights).all() and weights.min() > 0):
            raise ValueError(
                "class_weight must be weights in the range (0, inf). Got "
                f"{self.class_weight!r} instead."
            )
        if self.class_weight == "balanced":
            counted = None if sample_weight is None else sample_weight[labelled]
            weights = 1 / np.bincount(labels, counted)
        weights /= weights.max()
        if weights.min() < np.finfo(np.float32).tiny:
            raise ValueError(
                "class_weight must be weights whose ratios are in the range of float32."
                f" Got {self.class_weight!r} instead."
            )
        return weights

    def _parts(self, labels, rng):
        """Return the places of samples to train on and, if any, of those to hold out.

        They are places among the labelled samples.
        """
        parts = [np.arange(len(labels))]
        if self.early_stopping:
            try:
                parts = train_test_split(
                    *parts,
                    test_size=self.validation_fraction,
                    stratify=self.classes_[labels],
                    random_state=rng.randint(np.iinfo(np.int32).max),
                )
                missing = np.setdiff1d(np.arange(len(self.classes_)), labels[parts[0]])
                if len(missing):
                    raise ValueError(
                        "no training samples are left of the classes "
                        f"{self.classes_[missing].tolist()}."
                    )
            except ValueError as error:
                raise ValueError(
                    f"early_stopping=True with validation_fraction="
                    f"{self.validation_fraction} can't hold out labelled samples of "
                    f"each class: {error}"
                ) from error
        return [np.sort(part) for part in parts]

    def _labelled_data(self, samples):
        """Return (rows, labels, weights) to train on, and those held out or None."""
        rows, sample_weight, labelled, labels, class_weights, parts = samples
        weights = class_weights[labels]
        if sample_weight is not None:
            weights = weights * sample_weight[labelled]
        # Rows are copied only if some are left out.
        if len(parts[0]) == len(rows):
            return (rows, labels, weights), None

        def taken(part):
            return rows.take(labelled[part]), labels[part], weights[part]

        data, *held_out = map(taken, parts)
        return data, held_out[0] if held_out else None

    def _spreads(self, samples):
        """Whether there are samples without a label, and not too many with one."""
        n_labelled = len(samples.labelled)
        most = most_samples(samples.rows.shape[1]) // 2
        return n_labelled < len(samples.rows) and n_labelled <= most

    def _network(self, start, explained, data, level):
        """Train on data; return the function of rows that gives class probabilities."""
        with explained():
            training = start(data, None, level=level)
        why = training.run(self.max_iter, explained, lambda: None, lambda _: False)
        if why == "interrupt":
            raise KeyboardInterrupt  # There is nothing to keep yet.
        trainer = training.trainer
        return partial(
            inference.map_rows,
            finetuning.probabilities,
            trainer.architecture,
            trainer.arrays(training.progress.kept),
            device=trainer.batches.device,
            takes_sparse=True,
        )

    def _spread_data(self, samples, network, device, rng):
        """Return (rows, class probabilities, weights) to train on, and a noise level.

        The rows are those with a label that aren't held out, and those without one;
        of many, as many as the search for neighbours can take.
        """
        rows, sample_weight, labelled, labels, class_weights, parts = samples
        unlabelled = np.setdiff1d(np.arange(len(rows)), labelled)
        n_more = max(1, most_samples(rows.shape[1]) - len(parts[0]))
        if len(unlabelled) > n_more:
            unlabelled = rng.choice(unlabelled, n_more, replace=False)
        known = labelled[parts[0]]
        index = np.sort(np.concatenate([known, unlabelled]))
        chosen = rows.take(index)
        targets = np.zeros((len(index), len(self.classes_)))
        targets[np.searchsorted(index, known), labels[parts[0]]] = 1
        of_rows = np.ones(len(index)) if sample_weight is None else sample_weight[index]

        def train(part, targets, level):
            weights = of_rows[part] * (targets @ class_weights)
            function = network((chosen.take(part), targets, weights), level)
            return lambda part: function(chosen.take(part)).astype(np.float64)

        kept = chosen.kept_sparse(device, PRECISIONS["float32"])
        # Distances are to be the same for all forms of the same rows.
        if kept.stays_sparse:
            X = kept.X.astype(np.float64)
        else:
            X = np.ascontiguousarray(chosen[:], np.float64)
        targets, level = spread_labels(X, targets, train, rng)
        weights = of_rows * (targets @ class_weights)
        if kept.stays_sparse:
            level = 0.0  # Noise would make the rows dense.
        return (chosen, targets, weights), level

    def _labelled_rows(self, X, rows, labelled, data):
        """Return the labelled rows of X, for callbacks.

        ``rows`` is the validated form of X. ``data`` holds the rows to train on, with
        their labels and weights.
        """
        if len(labelled) == len(rows):
            return X
        if hasattr(X, "columns"):  # A data frame keeps its type and column names.
            return _safe_indexing(X, labelled)
        taken = data[0]
        if taken.out_of_core or len(taken) < len(labelled):
            taken = type(taken)(rows.X[labelled])
        return taken.X

    def _check_n_tangents(self, sizes):
        if self.tangent_weight > 0 and self.n_tangents > min(sizes):
            raise ValueError(
                f"n_tangents must be at most {min(sizes)}, the smallest of the numbers "
                f"of features and of units by layer {tuple(sizes)}. Got "
                f"{self.n_tangents} instead."
            )

    def _start(
        self,
        data,
        validation_data,
        *,
        rng,
        precision,
        device,
        level=0.0,
        verbose=False,
    ):
        """Return the `Training` to run.

        Without a corruption there is normal noise of this level.
        """
        corruption, corruption_level = self.corruption, float(self.corruption_level)
        if corruption is None and level > 0:
            corruption, corruption_level = "gaussian", level
        rows, labels, weights = data
        transformer = self.transformer_
        encoder = transformer._fitted_architecture
        seed = rng.randint(np.iinfo(np.int32).max)
        trainer = finetuning.FineTuner(
            finetuning.ClassifierArchitecture(
                (*encoder.sizes, len(self.classes_)), encoder.activation
            ),
            rows,
            labels,
            transformer.encoder_coefs_,
            transformer.encoder_intercepts_,
            weights=weights,
            tangents=self._tangents(rows, seed) if self.tangent_weight > 0 else None,
            tangent_weight=float(self.tangent_weight),
            alpha=float(self.alpha),
            corruption=corruption,
            corruption_level=corruption_level,
            learning_rate=float(self.learning_rate_init),
            optimizer=self.solver,
            batch_size=steps_batch_size(self.batch_size, len(rows)),
            precision=precision,
            device=device,
            seed=seed,
        )
        names = ["cross_entropy"]
        names += ["tangent"] if self.tangent_weight > 0 else []
        names += ["validation_loss"] if self.early_stopping else []
        return Training(
            trainer,
            Schedule(
                float(self.tol),
                self.n_iter_no_change,
                negligible=1.0,
                n_batches=trainer.batches.n_batches,
            ),
            names,
            validation=validation_data,
            verbose=verbose,
        )

    def _tangents(self, X, seed):
        """Return the tangents at each sample, (n_samples, n_tangents, n_features)."""
        transformer = self.transformer_
        wide = transformer.precision == "float64"
        sizes = transformer._fitted_architecture.sizes
        n_tangents = int(self.n_tangents)
        return transformer._map_rows(
            geometry.leading_tangents(n_tangents, seed),
            X,
            dtype=PRECISIONS["float64" if wide else "float32"],
            entries_per_row=geometry.tangent_entries(n_tangents, sizes),
        )

    def _fitted_attributes(self, training):
        trainer = training.trainer
        arrays = trainer.arrays(training.progress.kept)
        history = training.curves()
        loss_curve = history.pop("objective")
        return {
            "coefs_": arrays.encoder_weights + arrays.decoder_weights,
            "intercepts_": arrays.encoder_biases + arrays.decoder_biases,
            "loss_curve_": loss_curve,
            "history_": history,
            "n_iter_": len(loss_curve),
            "_activation": trainer.architecture.activation,
        }

    def _warn_of_unlearnt_classes(self, training, data, validation_data):
        X = data[0]
        reached = self.history_["cross_entropy"][-1]
        if self.early_stopping:
            reached = training.progress.lowest
        watched = self._frequencies(validation_data or data)
        constant = -xlogy(watched, self._frequencies(data)).sum()
        if reached < _UNLEARNT * constant:
            return
        lower = to_lower(
            self,
            tol=True,
            alpha=self.alpha > 0,
            corruption_level=self.corruption is not None,
            tangent_weight=self.tangent_weight > 0,
        )
        warnings.warn(
            f"Fine-tuning converged at a cross-entropy of {reached:.3g}"
            f"{' of held-out samples' if self.early_stopping else ''}; constant "
            f"probabilities, the class frequencies, have {constant:.3g}. The model has "
            "learned next to nothing about the classes. If X is informative, raise "
            f"learning_rate_init ({self.learning_rate_init}) or n_iter_no_change "
            f"({self.n_iter_no_change}), scale X, with {scalers(X)}, or lower "
            f"{lower}."
        )

    def _frequencies(self, data):
        """Return the weighted frequencies of the classes."""
        _, labels, weights = data
        if labels.ndim == 2:
            return weights @ labels / weights.sum()
        return np.bincount(labels, weights, len(self.classes_)) / weights.sum()

    def _diverged(self, rows, error):
        lower = to_lower(
            self,
            learning_rate_init=True,
            alpha=self.alpha > 0,
            corruption_level=self.corruption is not None,
            tangent_weight=self.tangent_weight > 0,
        )
        return (
            f"Fine-tuning diverged: {error}. Scale X, with {scalers(rows)} say, or "
            f"lower {lower}."
        )

    def _out_of_memory(self):
        sizes = self.transformer_._fitted_architecture.sizes
        tangents = f" and n_tangents={self.n_tangents!r}" if self.tangent_weight else ""
        return (
            f"There is not enough memory for fine-tuning {sizes[0]} features and units "
            f"by layer {sizes[1:]} with batch_size={self.batch_size!r}{tangents}."
        )

    def decision_function(self, X):
        """Compute the scores of the classes, which are the inputs z of the softmax.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            In float32 if X is, else in float64. With two classes, the score is that of
            the second class minus that of the first: the logarithm of the ratio of
            their probabilities.

        Raises
        ------
        ValueError
            If X is so large that results are infinite or NaN.
        """
        return self._map_rows(finetuning.decision, X)

    def predict_proba(self, X):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``, in float32 if X is, else in float64.

        Raises
        ------
        ValueError
            If X is so large that results are infinite or NaN.
        """
        return self._map_rows(finetuning.probabilities, X)

    def predict_log_proba(self, X):
        """Compute the logarithms of the probabilities of the classes.

        They are finite even where a probability is so small that it is rounded to 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``, in float32 if X is, else in float64.

        Raises
        ------
        ValueError
            If X is so large that results are infinite or NaN.
        """
        return self._map_rows(finetuning.log_probabilities, X)

    def predict(self, X):
        """Predict the class of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable class of each sample.

        Raises
        ------
        ValueError
            If X is so large that scores are infinite or NaN.
        """
        scores = self._map_rows(finetuning.logits, X)
        return self.classes_[scores.argmax(axis=1)]

    def _map_rows(self, function, X):
        check_is_fitted(self)
        X = validated(self, as_array(X), reset=False)
        sizes = X.shape[1], *(len(bias) for bias in self.intercepts_)
        result = inference.map_rows(
            function,
            finetuning.ClassifierArchitecture(sizes, self._activation),
            Parameters(
                self.coefs_[:-1],
                self.intercepts_[:-1],
                self.coefs_[-1:],
                self.intercepts_[-1:],
            ),
            X,
            device=resolve_device(self.device),
            takes_sparse=True,
        )
        if not np.isfinite(result).all():
            raise ValueError(
                "X is too large: the classes' scores are infinite or NaN. Scale X as "
                f"before fit, with {scalers(X)} say."
            )
        return result

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coefs_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
