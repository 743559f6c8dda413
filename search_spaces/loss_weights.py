"""Former module of the loss API, kept so that existing user files still import it."""

from search_spaces.loss_terms import TERMS, BalancerName, LossTerm, LossWeights, Need, loss_term
from search_spaces.losses.domain import loss_domain

__all__ = [
    "TERMS",
    "BalancerName",
    "LossTerm",
    "LossWeights",
    "Need",
    "loss_domain",
    "loss_term",
]
