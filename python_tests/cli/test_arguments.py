"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from litehrnet_cuda.cli.arguments import (
    DECODER_NAMES,
    add_estimator_arguments,
    at_least_one,
    create_estimator,
    image_size,
    whole_number,
)
from litehrnet_cuda.codecs.heatmap import DECODERS


@pytest.mark.parametrize("text", ["192x256", "192X256"])
def test_a_size_is_width_by_height(text: str) -> None:
    assert image_size(text) == (192, 256)


@pytest.mark.parametrize(
    "text", ["", "192", "192x", "x256", "192x256x3", "-192x256", "19.2x256", "192 x 256", "axb", "²x³"]
)
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a size such as 192x256"):
        image_size(text)


def test_whole_numbers() -> None:
    assert (at_least_one("1"), at_least_one("64"), whole_number("0"), whole_number("7")) == (1, 64, 0, 7)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "one", "²", "1e3"])
def test_what_is_no_whole_number_is_said(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of at least 1, got "):
        at_least_one(text)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of at least 0, got "):
        whole_number(text)


def test_none_is_not_at_least_one() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1, got '0'"):
        at_least_one("0")


def test_the_decoders_are_those_that_there_are() -> None:
    assert DECODER_NAMES == DECODERS


def estimator_options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_estimator_arguments(parser)
    return parser.parse_args(arguments)


def test_the_estimator_is_as_the_checkpoint_says(checkpoint: Path) -> None:
    estimator = create_estimator(estimator_options("--checkpoint", str(checkpoint)))
    assert estimator.model.variant.name == "naive_litehrnet_18"
    assert estimator.input_size == (64, 96)
    assert (estimator.decoder, estimator.flip_test, estimator.batch_size) == ("quarter", False, 64)


def test_options_reach_the_estimator(checkpoint: Path) -> None:
    options = "--size 48x64 --decoder dark --flip-test --batch-size 3 --device cpu --model naive_litehrnet_18".split()
    estimator = create_estimator(estimator_options("--checkpoint", str(checkpoint), *options))
    assert estimator.input_size == (48, 64)
    assert (estimator.decoder, estimator.flip_test, estimator.batch_size) == ("dark", True, 3)
    assert str(estimator.device) == "cpu"


def test_a_checkpoint_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        estimator_options()
    assert stop.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err
