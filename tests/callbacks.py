"""What tests with scikit-learn's callbacks share; spawned processes import it too."""

import pytest

from skcae import ContractiveAutoencoderTransformer

HAS_CALLBACKS = hasattr(ContractiveAutoencoderTransformer, "set_callbacks")
needs_callbacks = pytest.mark.skipif(
    not HAS_CALLBACKS, reason="this version of scikit-learn has no callbacks"
)
# Not so scikit-learn's own; StandardScaler and LogisticRegression have some.
other_steps_lack_callbacks = pytest.mark.filterwarnings(
    "ignore:The estimator MinMaxScaler does not support callbacks:UserWarning"
)


class Callback:
    """Does nothing but what ``on_fit_task_end`` of a subclass does."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass
