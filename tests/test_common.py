"""scikit-learn's own suite: the checks it yields, and those one has to ask for."""

import functools

import pytest
from checks import run, with_checks
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

from skcae import ContractiveAutoencoderTransformer
from skcae.engine.activations import ACTIVATIONS
from skcae.engine.device import PRECISIONS

# The checks look at interfaces, so that a few epochs do. Only the default instance
# runs as it is, and has to converge.
few_epochs = functools.partial(ContractiveAutoencoderTransformer, max_iter=5)
unconverged = pytest.mark.filterwarnings(
    "ignore:Maximum iterations:sklearn.exceptions.ConvergenceWarning"
)

# Each activation and each precision once, in pairs with what has nothing to do with it.
VARIANTS = [
    few_epochs(tied_weights=False, activation="relu"),
    few_epochs(tied_weights=True, activation="identity", early_stopping=True),
    few_epochs(lam=0, activation="gelu", solver="adam"),
    few_epochs(precision="bfloat16", activation="elu"),
    few_epochs(precision="float32", activation="sigmoid"),
    few_epochs(precision="float64", activation="tanh"),
    few_epochs(output_activation="sigmoid", activation="silu"),
    few_epochs(n_hidden=(6, 3), activation="softplus"),
    few_epochs(
        n_hidden=[3, 6],
        tied_weights=False,
        n_projections=None,
        activation="leaky_relu",
    ),
    few_epochs(
        n_hidden=(4, 3, 2), gamma=0.1, early_stopping=True, activation="softsign"
    ),
    few_epochs(gamma=1),
    few_epochs(corruption="gaussian", alpha=0.01),
    few_epochs(corruption="masking", lam=0),
    few_epochs(n_hidden=1, batch_size=1),
    # A continued fit differs from the first, and some checks compare the two: steps
    # too small to change a parameter make them equal, on the path of continued fits.
    few_epochs(warm_start=True, learning_rate_init=1e-30),
]

# Cross-entropy needs data in [0, 1], so that it can't be checked without a scaler.
CROSS_ENTROPY = make_pipeline(
    MinMaxScaler(clip=True),
    few_epochs(loss="cross_entropy", output_activation="sigmoid", random_state=0),
)
# A Pipeline fits the very steps that it was given. These take that for a change of its
# parameters; no Pipeline passes them, and the step itself does above.
NOT_FOR_A_PIPELINE = {
    "check_dont_overwrite_parameters",
    "check_estimators_overwrite_params",
}


@with_checks([ContractiveAutoencoderTransformer()])
def test_defaults(estimator, check):
    run(check, estimator)


# Not every check's data suit every variant: a sigmoid doesn't reach beyond [0, 1].
keeps_little = pytest.mark.filterwarnings("ignore:The reconstruction explains")


def test_every_activation_and_precision_is_a_variant():
    assert {model.activation for model in VARIANTS} == set(ACTIVATIONS)
    assert {model.precision for model in VARIANTS} == set(PRECISIONS)


@unconverged
@keeps_little
@pytest.mark.filterwarnings("ignore:precision='bfloat16' is emulated:UserWarning")
@with_checks(VARIANTS)
def test_variants(estimator, check):
    run(check, estimator)


@unconverged
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=estimator_checks._check_name(check))
        for _, check in estimator_checks_generator(CROSS_ENTROPY)
        if check.func.__name__ not in NOT_FOR_A_PIPELINE
    ],
)
def test_cross_entropy_after_a_scaler(check):
    run(check, CROSS_ENTROPY)


# `check_estimator` doesn't yield these; scikit-learn's own tests call them one by one.
MORE_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_estimators_partial_fit_n_features,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_non_transformer_estimators_n_iter,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]
# The checks of `set_output` fit with names and transform without, and vice versa.
set_output_checks = pytest.mark.filterwarnings(
    "ignore:X (does not have valid|has) feature names:UserWarning"
)


@set_output_checks
@pytest.mark.parametrize("check", MORE_CHECKS, ids=lambda check: check.__name__)
def test_more_checks_with_defaults(check):
    estimator = ContractiveAutoencoderTransformer()
    run(check, type(estimator).__name__, estimator)


@unconverged
@set_output_checks
@pytest.mark.parametrize("check", MORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "estimator",
    [
        few_epochs(tied_weights=False),
        few_epochs(early_stopping=True),
        few_epochs(precision="float64"),
    ],
    ids=str,
)
def test_more_checks_with_variants(estimator, check):
    run(check, type(estimator).__name__, estimator)
