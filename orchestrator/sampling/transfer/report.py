"""Report of a transfer: how much a study uses its earlier studies on other data.

A function of the ledger: it is what the next proposal would use.
"""

import numpy as np

from orchestrator.config.schema import StudyConfig
from orchestrator.confirmation.plan import KIND
from orchestrator.ledger import Ledger, StudyRow
from orchestrator.objective import main_objective
from orchestrator.sampling.proposal_model import scaled_scores
from orchestrator.sampling.transfer.prior_mean import Agreement, measure_agreement
from orchestrator.sampling.transfer.source_model import SourceModel, history_of
from orchestrator.sampling.warm_start import StudyIdentity, WarmStartError, load_warm_start


def transfer_report(ledger: Ledger, row: StudyRow) -> list[Agreement]:
    """Return how well each earlier study on other data ranks the trials of a study.

    Several objectives are reported by the main one. Empty if there is no such earlier study, or
    if one was deleted since.
    """
    config = StudyConfig.from_json(row.config_json)
    objectives, main = config.objectives, main_objective(config.objectives)
    if not config.warm_start or main not in objectives:
        return []
    try:
        earlier = load_warm_start(ledger, config, StudyIdentity.from_row(row)).sources
    except WarmStartError:
        return []
    if not earlier:
        return []
    trials = [t for t in ledger.trials(row.id) if t.kind != KIND and t.reason != "duplicate"]
    history = history_of(trials, objectives, config.budget)
    scores = scaled_scores(history, objectives)[0][:, objectives.index(main)]
    known = np.flatnonzero(np.isfinite(scores))
    sources = [SourceModel(study, objectives) for study in earlier]
    params = [history.params[row] for row in known]
    predictions = [source.predict(params)[:, objectives.index(main)] for source in sources]
    return measure_agreement(sources, np.stack(predictions, axis=1), scores[known])
