"""Fit a built-in space to a task: head, loss and augmentation.

Built-in spaces of images are made for classification. If a task has regression targets, their
networks get a multi-task head and a loss term for each kind of target. Spaces whose loss has
regression terms already, and spaces of users, are unchanged.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from search_spaces.blocks import Classify, MultiTaskHead
from search_spaces.candidate import Candidate
from search_spaces.domains import Const, Domain, OneOf, Record
from search_spaces.loss_terms import BalancerName, LossWeights
from search_spaces.losses import TERMS, loss_domain
from search_spaces.space import SearchSpace
from search_spaces.task import Task


def fit_to_task(space: SearchSpace, task: Task) -> SearchSpace:
    """Return the built-in space for this task; unchanged if the task has only classes.

    Augmentation is disabled for regression, since it may change targets such as positions or
    angles. The default clips gradients, because squared errors of some initial weights diverge at
    the learning rate of the default recipe, which was tuned on classes.
    """
    default = space.default()
    has_regression = any("values" in TERMS[name].needs for name in default.losses.terms)
    candidates = space.candidates
    if not task.num_values or has_regression or not isinstance(candidates, Record):
        return space
    fields: dict[str, Domain[Any]] = {**candidates.fields, "losses": fitting_losses(task)}
    fields["recipe"] = _recipe(fields["recipe"])
    architecture = fields["architecture"]
    if isinstance(default.architecture.head, Classify) and isinstance(architecture, Record):
        head = architecture.fields["head"]
        both = Record(MultiTaskHead, dict(head.fields) if isinstance(head, Record) else {})
        fields["architecture"] = _with(architecture, {"head": both})
    return replace(space, candidates=Record(Candidate, fields))


def fitting_losses(task: Task) -> Domain[LossWeights]:
    """Return a term for each kind of target; with two, also their weight and balancer."""
    if not task.num_classes:
        return loss_domain(main=("mse", "huber"), side=())
    return loss_domain(
        main=("cross_entropy", "focal"), side=(), always=("mse",), balancers=get_args(BalancerName)
    )


def _recipe(domain: Domain[Any]) -> Domain[Any]:
    """Return the recipes without augmentation, of which the default clips gradients."""
    fields: dict[str, Domain[Any]] = {"augmentation": Const("none")}
    clipping = domain.fields.get("gradient_clip") if isinstance(domain, Record) else None
    if isinstance(clipping, OneOf) and "on" in clipping.branches:
        fields["gradient_clip"] = replace(clipping, initial="on")
    return _with(domain, fields)


def _with(domain: Domain[Any], fields: Mapping[str, Domain[Any]]) -> Domain[Any]:
    """Return a record with some decisions replaced; any other domain unchanged."""
    if not isinstance(domain, Record):
        return domain
    return replace(domain, fields={**domain.fields, **fields})
