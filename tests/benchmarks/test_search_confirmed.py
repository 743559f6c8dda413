from benchmarks.search.confirmed import confirm
from benchmarks.search.tables.closed_form import noise_only


def test_simulated_studies_of_noise_have_no_winner_and_a_large_gain_is_found() -> None:
    for seed in range(2):
        found, trainings = confirm(noise_only(), gain=0.0, seed=seed, seeds=7)
        assert found.decided
        assert found.winner is None
        assert trainings <= 4 * 7
    found, _ = confirm(noise_only(), gain=6.0, seed=0)
    assert found.winner is not None
    assert "beats the default by" in found.sentence
