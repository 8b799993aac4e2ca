from __future__ import annotations

import json

import pytest

from litehrnet_cuda.cli.commands import summary
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.models.segmentation import SEGMENTATION_HEADS


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary"]) == 0
    out = capsys.readouterr().out
    for text in ("litehrnet_18", "wider_naive_litehrnet_18", "1,130,769", "205.23M", "319.20M", "MB"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 120


def test_json_of_one_model_at_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "litehrnet_30", "--size", "288x384", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["name"], result["width"], result["height"]) == ("litehrnet_30", 288, 384)
    assert result["official_operations_M"] == 717.84


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "litehrnet_18", "--plan", "--size", "71x50", "--num-outputs", "5"]) == 0
    out = capsys.readouterr().out
    for text in (
        "input 71x50",
        "StemConvolution",
        "stage2.1.fuse_layers.3",
        "5x13x18",
        "launches          65",
        "peak memory",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 120


def test_plans_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "litehrnet_18", "litehrnet_30", "--plan", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [(result["network"], result["launches"]) for result in results] == [
        ("litehrnet_18", 65),
        ("litehrnet_30", 107),
    ]
    assert main(["summary", "litehrnet_18", "--json"]) == 0
    assert results[0]["macs"] == json.loads(capsys.readouterr().out)[0]["macs"]


def test_help_fits_a_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["summary", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80


def test_heads_are_those_of_segmentation() -> None:
    assert summary.HEADS == SEGMENTATION_HEADS


def test_segmentation_beside_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--task", "segmentation"]) == 0
    out = capsys.readouterr().out
    for text in (
        "input 1024x512, batch 1, 19 classes, fcn head with the iterative head",
        "1,188,691",
        "1,821,639",
        "4001.19M",
        "73.03",
        "74.98",
        "none",  # of the naive networks
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 120


def test_segmentation_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--head", "resize_concat", "--no-iterative-head", "--num-outputs", "2", "--size", "64x96", "--json"]
    assert main(["summary", "litehrnet_30", "--task", "segmentation", *arguments]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["task"], result["head"], result["iterative_head"]) == ("segmentation", "resize_concat", False)
    assert (result["width"], result["height"], result["published_cityscapes_mIoU"]) == (64, 96, 72.12)
    assert result["parameters"] == 2059599 - 17 * 601


def test_plan_of_the_backbone_for_segmentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "litehrnet_18", "--plan", "--task", "segmentation", "--size", "64x64"]) == 0
    out = capsys.readouterr().out
    assert "launches          65" in out
    assert "the heads for segmentation follow in PyTorch" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["litehrnet_19"], "did you mean 'litehrnet_18'?"),
        (["--size", "256"], "expected a size such as 192x256"),
        (["--size", "16x16"], "at least 32"),
        (["--plan", "--size", "16x16"], "at least 32"),
        (["--head", "fcn"], "--head: expected --task segmentation with it"),
        (["--no-iterative-head"], "--no-iterative-head: expected --task segmentation with it"),
        (["--task", "depth"], "invalid choice: 'depth'"),
        (["--task", "segmentation", "--size", "16x64"], "at least 32"),
        (["--batch", "0"], "whole number of at least 1"),
        (["--plan", "--batch", "8"], "--batch: not together with --plan"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["summary", *arguments])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
