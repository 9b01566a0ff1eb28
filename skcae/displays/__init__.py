"""Figures of a fitted contractive autoencoder, after scikit-learn's displays.

``from_estimator`` computes and draws; the constructor only stores arrays, which
``plot`` can draw again, elsewhere or otherwise.
"""

from ._features import CodeDisplay, PenaltySweepDisplay, RobustnessDisplay
from ._model import (
    ComponentsDisplay,
    ContractionRatioDisplay,
    ReconstructionDisplay,
    SamplingDisplay,
    SingularValueDisplay,
    TangentDisplay,
    TrainingCurveDisplay,
)
from ._outliers import FeatureErrorDisplay, OutlierScoreDisplay

__all__ = [
    "CodeDisplay",
    "ComponentsDisplay",
    "ContractionRatioDisplay",
    "FeatureErrorDisplay",
    "OutlierScoreDisplay",
    "PenaltySweepDisplay",
    "ReconstructionDisplay",
    "RobustnessDisplay",
    "SamplingDisplay",
    "SingularValueDisplay",
    "TangentDisplay",
    "TrainingCurveDisplay",
]
