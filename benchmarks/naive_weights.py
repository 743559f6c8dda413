"""Two tasks and one weight: what a search makes of it that may choose its own ruler.

    .venv/bin/python benchmarks/naive_weights.py [--seeds 3] [--trials 20]

Both searches decide the width of a network and the share of the loss that the angle of a rendered
shape has next to its class, by Optuna's TPE with equal trials. The naive one minimizes the weighted
total on validation, which it can lower by giving the harder task no weight. Ours aims at accuracy
and at the error of the angle, which no weight changes; of its front the trial is shown that equal
preference for both picks. archscout refuses the naive objective, and says why.
"""

import argparse
import statistics
from collections.abc import Sequence

import optuna
import torch
from trainings import trained

from orchestrator.objective import Objective, preference_distances
from search_spaces.architecture import Architecture, Stream
from search_spaces.blocks import Concatenate, ConvolutionStem, MultiTaskHead, Residual, Stage
from search_spaces.candidate import Candidate
from search_spaces.loss_terms import LossTerm, LossWeights
from search_spaces.recipe import Recipe
from workers.data import DataSpec, SplitSpec, load

OBJECTIVES = (
    Objective(metric="val_accuracy", direction="maximize"),
    Objective(metric="val_mae", direction="minimize"),
)
EXAMPLES, EPOCHS = 1_000, 5


def candidate(width: int, share: float) -> Candidate:
    """A small network whose loss gives the angle this share next to the class."""
    image = Stream(
        stem=ConvolutionStem(width=12, reduction="stride"),
        stages=(Stage(width=width, depth=1, block=Residual()),),
    )
    return Candidate(
        architecture=Architecture(
            streams={"image": image}, fusion=Concatenate(pooling="flatten"), head=MultiTaskHead()
        ),
        recipe=Recipe(optimizer="adamw", learning_rate=5e-3, weight_decay=1e-4),
        losses=LossWeights(
            main="cross_entropy",
            terms={"cross_entropy": LossTerm(weight=1 - share), "mse": LossTerm(weight=share)},
        ),
        space_name="benchmark",
        space_version="1",
    )


def searched(seed: int, trials: int, *, naive: bool) -> list[dict[str, float]]:
    """Every trial's share, total and metrics."""
    spec = DataSpec(source="shapes", limit=EXAMPLES, split=SplitSpec(seed=seed))
    dataset = load(spec)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=6)
    directions = ["minimize"] if naive else [each.direction for each in OBJECTIVES]
    study = optuna.create_study(sampler=sampler, directions=directions)
    seen = []
    for number in range(trials):
        trial = study.ask()
        share = trial.suggest_float("share", 0.01, 0.99)
        one = candidate(trial.suggest_int("width", 8, 32, step=8), share)
        _, epochs = trained(one, spec, dataset, seed=number, epochs=EPOCHS)
        last = epochs[-1].metrics
        found = {name: last[name] for name in ("val_accuracy", "val_mae")}
        total = (1 - share) * last["val_loss"] + share * last["val_rmse"] ** 2
        found |= {"share": share, "total": total}
        values = [found["total"]] if naive else [found[each.metric] for each in OBJECTIVES]
        study.tell(trial, values)
        seen.append(found)
    return seen


def chosen(seen: Sequence[dict[str, float]], *, naive: bool) -> dict[str, float]:
    """The least total; or what an equal preference for both objectives picks."""
    far = [one["total"] for one in seen]
    if not naive:
        results = [[one[each.metric] for each in OBJECTIVES] for one in seen]
        far = preference_distances(
            results, OBJECTIVES, dict.fromkeys(("val_accuracy", "val_mae"), 0.5)
        )
    return seen[far.index(min(far))]


def main() -> None:
    """Prints both searches' choices, and where their last trials looked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(
        "| search | seed | share of the angle | val_accuracy | val_mae | median share, last half |"
    )
    print("|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        for naive in (True, False):
            seen = searched(seed, options.trials, naive=naive)
            best = chosen(seen, naive=naive)
            late = statistics.median(one["share"] for one in seen[options.trials // 2 :])
            cells = [f"{best[name]:.3g}" for name in ("share", "val_accuracy", "val_mae")]
            row = ["naive" if naive else "ours", str(seed), *cells, f"{late:.2f}"]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
