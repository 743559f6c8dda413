"""Loss terms, their search space and their weighted sum; importing it registers all terms."""

from search_spaces.loss_terms import TERMS
from search_spaces.losses.agreement import Consistency, Distillation, GateEntropy
from search_spaces.losses.auxiliary import Auxiliary
from search_spaces.losses.cross_entropy import CrossEntropy
from search_spaces.losses.domain import loss_domain
from search_spaces.losses.focal import Focal
from search_spaces.losses.mixture import LossValue, WeightedLoss, build
from search_spaces.losses.pendulum import energy_is_kept
from search_spaces.losses.physics import Wave, law, rising
from search_spaces.losses.regression import Huber, Quantile, SquaredError
from search_spaces.losses.similarity import Clip, NTXent, Triplet
from search_spaces.losses.supervised_contrastive import SupervisedContrastive

__all__ = [
    "TERMS",
    "Auxiliary",
    "Clip",
    "Consistency",
    "CrossEntropy",
    "Distillation",
    "Focal",
    "GateEntropy",
    "Huber",
    "LossValue",
    "NTXent",
    "Quantile",
    "SquaredError",
    "SupervisedContrastive",
    "Triplet",
    "Wave",
    "WeightedLoss",
    "build",
    "energy_is_kept",
    "law",
    "loss_domain",
    "rising",
]
