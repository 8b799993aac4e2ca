"""What docs/accuracy.md says that this project has measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from litehrnet_cuda.codecs.heatmap import DECODERS
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine.evaluate import evaluate_decoders
from litehrnet_cuda.models.complexity import measure_complexity
from litehrnet_cuda.models.litehrnet import VARIANTS
from litehrnet_cuda.models.published_segmentation import CITYSCAPES_MIOU, Published
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
SETTINGS = [("annotated", False), ("annotated", True), ("detected", False), ("detected", True)]  # columns of the table


def written() -> dict[str, list[float]]:
    rows = re.findall(r"^\| `(\w+)` \|((?: [\d.]+ \|)+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {decoder: [float(cell) for cell in cells.rstrip("|").split("|")] for decoder, cells in rows}


def test_every_decoder_has_a_row_and_every_setting_a_column() -> None:
    assert list(written()) == list(DECODERS)
    assert {len(row) for row in written().values()} == {len(SETTINGS)}


@pytest.mark.parametrize("column", range(len(SETTINGS)), ids=str)
def test_figures_are_what_is_measured(shared: Path, column: int) -> None:
    """Half a point, less than one joint decision of one of the twelve people (1/120) is worth."""
    boxes, flip_test = SETTINGS[column]
    folder = shared / "data" / "coco"
    people = CocoKeypoints(folder / "test_coco.json", folder)
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    estimator = PoseEstimator(checkpoint=weights, flip_test=flip_test)
    looked_in = people.detections(folder / "test_coco_det_AP_H_56.json") if boxes == "detected" else None
    found = evaluate_decoders(estimator, people, looked_in, DECODERS, progress=False)
    for decoder, evaluation in found.items():
        assert 100 * evaluation.score == pytest.approx(written()[decoder][column], abs=0.5), decoder
        assert evaluation.boxes == boxes


def test_cityscapes_rows_are_what_was_published_and_what_is_counted() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (yes|no) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    found = {}
    for name, head, iterative, cells in rows:
        parameters, count, *scores = (cell.strip("* ") for cell in cells.split("|"))
        with_head = iterative == "yes"
        found[name, head, with_head] = Published(*map(float, scores))
        counted = measure_complexity(
            VARIANTS[name], task="segmentation", head=head, with_head=with_head, height=512, width=1024
        )
        assert parameters == f"{counted.parameters:,}"
        assert count == f"{counted.to_dict()['official_operations_M']:.0f}M"
    assert found == CITYSCAPES_MIOU


PUBLISHED = {
    "Wider naive Lite-HRNet-18": [("PaddleDetection", "67.6"), ("PaddleDetection", "68.4")],
    "**Lite-HRNet-30**": [("EasyCV", "71.0")],
    "PP-TinyPose": [("PaddleDetection", "58.1"), ("PaddleDetection", "68.8")],
    "RTMPose-t": [("mmpose", "68.5")],
    "RTMPose-s": [("mmpose", "72.2")],
    "RTMPose-m": [("mmpose", "75.8")],
    "Dite-HRNet-30": [("SOTAVerified", "70.6")],
    "Lite-HRNet-18": [("mmpose", "4.77")],
}


def rows_by_network() -> dict[str, list[str]]:
    """Rows of all tables by network; a row that names none is of the one above."""
    found: dict[str, list[str]] = {}
    network = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            network = line.split("|")[1].partition("(")[0].strip() or network
            found.setdefault(network, []).append(line)
    return found


@pytest.mark.parametrize("network", PUBLISHED, ids=str)
def test_published_figures_are_there_with_their_source(network: str) -> None:
    rows = rows_by_network()[network]
    for source, figure in PUBLISHED[network]:
        assert any(source in row and f"| {figure} |" in row for row in rows), (source, figure)


def test_every_link_has_its_address() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\[(\w)\]", text)) == set(re.findall(r"^\[(\w)\]: https://", text, re.MULTILINE))
