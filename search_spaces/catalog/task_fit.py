"""Ready spaces for whatever a task asks for: the head, loss and augmentation that suit its answers.

A ready space of images is written for classes. Where a task asks for numbers too, or for nothing
else, its networks get a head that tells both, and a loss term for each answer. A space whose loss
foretells numbers already is left as it is, and so are spaces of a user's own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from search_spaces.blocks import Classify, MultiTaskHead
from search_spaces.candidate import Candidate
from search_spaces.domains import Const, Domain, Record
from search_spaces.loss_terms import BalancerName, LossWeights
from search_spaces.losses import TERMS, loss_domain
from search_spaces.space import SearchSpace
from search_spaces.task import Task


def answering(space: SearchSpace, task: Task) -> SearchSpace:
    """The ready space for this task; itself where classes are all that is asked for.

    Numbers may say where something is and how it lies, which augmentation would change: it is left
    out.
    """
    default = space.default()
    told = any("values" in TERMS[name].needs for name in default.losses.terms)
    candidates = space.candidates
    if not task.num_values or told or not isinstance(candidates, Record):
        return space
    fields: dict[str, Domain[Any]] = {**candidates.fields, "losses": fitting_losses(task)}
    fields["recipe"] = _with(fields["recipe"], {"augmentation": Const("none")})
    architecture = fields["architecture"]
    if isinstance(default.architecture.head, Classify) and isinstance(architecture, Record):
        head = architecture.fields["head"]
        both = Record(MultiTaskHead, dict(head.fields) if isinstance(head, Record) else {})
        fields["architecture"] = _with(architecture, {"head": both})
    return replace(space, candidates=Record(Candidate, fields))


def fitting_losses(task: Task) -> Domain[LossWeights]:
    """A term for each answer: with two, their weight and how it adapts are decided too."""
    if not task.num_classes:
        return loss_domain(main=("mse", "huber"), side=())
    return loss_domain(
        main=("cross_entropy", "focal"), side=(), always=("mse",), balancers=get_args(BalancerName)
    )


def _with(domain: Domain[Any], fields: Mapping[str, Domain[Any]]) -> Domain[Any]:
    """A record with some of its decisions replaced; what is no record has none to replace."""
    if not isinstance(domain, Record):
        return domain
    return replace(domain, fields={**domain.fields, **fields})
