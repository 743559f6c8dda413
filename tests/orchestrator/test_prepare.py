"""What opening a study refuses before anything is written."""

import pytest

from orchestrator.config.load import Override, load
from orchestrator.errors import ProblemsError
from orchestrator.study.prepare import prepare_study


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ("sequence", "reads series, data source 'digits' gives image. No data source gives series"),
        (
            "image_text",
            "reads image and text, data source 'digits' gives image. No data source gives text",
        ),
        ("vector", "reads vector, data source 'digits' gives image. Choose a space or data of"),
    ],
)
def test_a_ready_space_that_reads_what_no_data_gives_is_refused(space: str, reason: str) -> None:
    config = load("digits", [Override.parse("space", space, "--set")])
    with pytest.raises(ProblemsError) as refused:
        prepare_study(config)
    assert f"space: '{space}' {reason}" in str(refused.value)
