import xml.etree.ElementTree as ET

import pytest
from support.stories import Story

RESIDUAL = {"kind": "residual", "kernel": 3}
ARCHITECTURE = {
    "streams": {
        "image": {
            "stem": {"kind": "convolution", "width": 16, "kernel": 3, "reduction": "pool"},
            "stages": [{"width": 32, "depth": 1, "reduction": "none", "block": RESIDUAL}],
        }
    },
    "fusion": {"kind": "concatenate", "pooling": "average"},
    "head": {"kind": "classify", "dropout": 0.0},
}


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore:.*noload.*")
def test_a_run_has_its_drawing_at_the_start_and_its_curves_at_the_end(story: Story) -> None:
    projection = story.projection()
    shapes = {"streams.image.stem": (16, 14, 14), "streams.image.stages.0": (32, 14, 14)}
    uid = story.add(candidate={"schema": 1, "architecture": ARCHITECTURE}, shapes=shapes)
    story.start(uid)
    while projection.step():
        pass
    (network,) = (story.home / "artifacts").rglob("*.svg")
    texts = [element.text for element in ET.fromstring(network.read_text()).iter()]
    times = "\N{MULTIPLICATION SIGN}"
    assert f"32 {times} 14 {times} 14" in texts
    for epoch in (1, 2, 3):
        story.measure(uid, epoch, val_accuracy=epoch / 3)
    story.finish(uid, "COMPLETE", values=(1.0,))
    while projection.step():
        pass
    found = sorted(path.name for path in (story.home / "artifacts").rglob("*.svg"))
    assert found == ["architecture.svg", "learning_curve.svg"]
