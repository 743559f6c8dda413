"""A run of a study: what holds for its whole process."""

import gc

from orchestrator.run import loaded_objects_frozen


def test_what_was_loaded_before_a_run_is_out_of_garbage_collections() -> None:
    before = gc.get_freeze_count()
    loaded = [[] for _ in range(1000)]  # containers, which collections follow
    with loaded_objects_frozen():
        assert gc.get_freeze_count() >= before + len(loaded)
    assert gc.get_freeze_count() == 0
