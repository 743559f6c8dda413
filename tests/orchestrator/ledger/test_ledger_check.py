"""The check of a ledger's invariants, in either database."""

from typing import Any

from orchestrator.ledger.maintenance import check


def test_a_ledger_in_use_keeps_its_invariants(scene: Any, measure: Any) -> None:
    _, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.record(lease, key, measure(1, checkpoint=True))
    found = check(scene.url)
    assert found.problems == ()
    assert found.revision == found.newest


def test_a_violated_invariant_is_named_in_either_database(scene: Any) -> None:
    _, lease = scene.open()
    scene.start(lease)
    scene.sql("UPDATE attempt SET ended = 1.0")
    assert any("one open attempt" in problem for problem in check(scene.url).problems)
