"""What breaks candidates is named, alone and in pairs, and nothing else is."""

import random
from typing import Any

from orchestrator.preflight.failure_causes import find_failure_causes


def sampled(count: int) -> list[dict[str, Any]]:
    """Answers by chance, as a space of up to three stages would get them."""
    chance = random.Random(7)
    found = []
    for _ in range(count):
        params: dict[str, Any] = {"stages": chance.randint(1, 3), "rate": chance.random()}
        for stage in range(params["stages"]):
            params[f"stages.{stage}"] = chance.choice(["window", "plain"])
            if params[f"stages.{stage}"] == "window":
                params[f"stages.{stage}.window.size"] = chance.choice([3, 5, 7])
            params[f"stages.{stage}.width"] = chance.choice([8, 16, 24, 32])
        found.append(params)
    return found


def test_a_decision_that_always_breaks_is_named_wherever_it_stands() -> None:
    tried = [
        (p, "7 does not fit 4" if any(v == 7 and "size" in n for n, v in p.items()) else None)
        for p in sampled(300)
    ]

    [found] = find_failure_causes(tried)

    broken = sum(reason is not None for _, reason in tried)
    assert str(found) == (
        f"stages.*.window.size = 7: {broken} of {broken} do not build: 7 does not fit 4"
    )


def test_two_decisions_that_break_only_together_are_named_together() -> None:
    def reason(params: dict[str, Any]) -> str | None:
        bad = params.get("stages.0.window.size") == 5 and params["stages.0.width"] >= 24
        return "too wide for windows of 5" if bad else None

    [found, *_] = find_failure_causes([(params, reason(params)) for params in sampled(600)])

    first, second = sorted(found.decision.split(" and "))
    assert (first, second) == ("stages.0.width >= 24", "stages.0.window.size = 5")
    assert found.broken == found.sampled


def test_two_independent_decisions_are_both_named_the_heavier_first() -> None:
    def reason(params: dict[str, Any]) -> str | None:
        if params["stages.0"] == "window":
            return "no windows"
        return "slow" if params["rate"] <= 0.1 else None

    first, second, *_ = find_failure_causes([(params, reason(params)) for params in sampled(400)])

    assert first.decision == "stages.0 = window"
    assert second.decision.startswith("rate <= 0.")
    assert second.reason == "slow"


def test_nobody_is_blamed_where_all_build() -> None:
    assert find_failure_causes([(params, None) for params in sampled(50)]) == []


def test_a_rare_failure_among_many_is_still_named() -> None:
    tried: list[Any] = [(params, None) for params in sampled(4000)]
    tried[1234] = ({**tried[1234][0], "odd": True}, "odd")

    [found, *_] = find_failure_causes(tried)

    assert (found.decision, found.broken, found.sampled) == ("odd = True", 1, 1)
