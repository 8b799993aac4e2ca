"""Figures as lines of text."""

from __future__ import annotations

from litehrnet_cuda.cli.accuracy import accuracy_lines, decoder_lines
from litehrnet_cuda.engine.evaluate import Evaluation
from litehrnet_cuda.metrics.coco import STATISTICS

BOXES = "boxes detected by faster.json"


def coco(precision: float) -> Evaluation:
    return Evaluation(dict.fromkeys(STATISTICS, precision) | {"AP (M)": -1.0}, [], [])


def test_average_precision() -> None:
    lines = accuracy_lines(coco(0.80441), BOXES)
    assert len(lines) == len(STATISTICS)
    assert lines[0] == "AP         0.8044  boxes detected by faster.json"
    assert lines[3] == "AP (M)       none  boxes detected by faster.json"
    assert len({line.index(BOXES) for line in lines}) == 1


def test_a_row_for_each_joint() -> None:
    metrics = {"PCK@0.2": 0.5, "AUC": 0.25, "EPE": 12.345, "PCK@0.2 left_eye": 1.0, "EPE left_eye": -1.0}
    assert accuracy_lines(Evaluation(metrics, [], [], "pck"), "annotated boxes") == [
        "          PCK@0.2      AUC      EPE  in",
        "all        0.5000   0.2500    12.35  annotated boxes",
        "left_eye   1.0000              none  annotated boxes",
    ]
    metrics = {"PCKh@0.5": 0.854, "PCKh@0.1": 0.295, "PCKh@0.5 head": 0.9, "PCKh@0.1 head": 0.3}
    assert accuracy_lines(Evaluation(metrics, [], [], "pckh"), "annotated boxes") == [
        "      PCKh@0.5  PCKh@0.1  in",
        "all     0.8540    0.2950  annotated boxes",
        "head    0.9000    0.3000  annotated boxes",
    ]


def test_a_row_for_each_decoder() -> None:
    lines = decoder_lines({"quarter": coco(0.7), "quarter_per_axis": coco(0.8)}, BOXES)
    assert [line.split()[0] for line in lines] == ["decoder", "quarter", "quarter_per_axis"]
    assert lines[1].split() == ["quarter", "0.7000", "0.7000", "0.7000", "none", "0.7000", "0.7000", *BOXES.split()]
    assert len({len(line) for line in lines[1:]}) == 1
    metrics = {"PCK@0.2": 0.5, "AUC": 0.25, "EPE": 12.3, "PCK@0.2 nose": 1.0}
    head, row = decoder_lines({"dark": Evaluation(metrics, [], [], "pck")}, "annotated boxes")
    assert head.split() == ["decoder", "PCK@0.2", "AUC", "EPE", "in"]
    assert row.split() == ["dark", "0.5000", "0.2500", "12.30", "annotated", "boxes"]
