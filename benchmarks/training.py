"""One training of one candidate, as a study's worker does it, for benchmarks to look into."""

from search_spaces.candidate import Candidate
from workers.budget import Budget
from workers.data import Dataset, DataSpec
from workers.job import AttemptKey, TrainingJob
from workers.measurement import Measurement
from workers.trainer import Trainer


def trained(
    candidate: Candidate, dataset: Dataset, *, epochs: int, seed: int
) -> tuple[Trainer, Measurement]:
    """The trainer after its last epoch, and what it measured then."""
    job = TrainingJob(
        key=AttemptKey(trial_uid="0" * 32, number=1, fence=""),
        trial_number=0,
        candidate=candidate.to_dict(),
        data=DataSpec(source="shapes"),  # a label only: the data set is given
        budget=Budget(maximum=epochs),
        seed=seed,
    )
    trainer = Trainer(job, dataset)
    return trainer, [told for told in trainer.run() if isinstance(told, Measurement)][-1]
