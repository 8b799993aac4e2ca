"""The table of published figures is of networks that there are, and shows what was found with them."""

from __future__ import annotations

import itertools

import torch

from litehrnet_cuda.models.published_segmentation import CITYSCAPES_MIOU
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SEGMENTATION_HEADS


def test_all_networks_are_there_once() -> None:
    names = ("litehrnet_18", "litehrnet_30")
    assert set(CITYSCAPES_MIOU) == set(itertools.product(names, SEGMENTATION_HEADS, (True, False)))
    with torch.device("meta"):
        for name, head, with_head in CITYSCAPES_MIOU:
            create_model(name, "segmentation", head=head, with_head=with_head)  # type: ignore[call-overload]


def test_the_iterative_head_is_worth_some_points_at_320_000_iterations() -> None:
    gains = [
        CITYSCAPES_MIOU[name, head, True].at_320k - CITYSCAPES_MIOU[name, head, False].at_320k
        for name, head, with_head in CITYSCAPES_MIOU
        if with_head
    ]
    assert all(1.5 < gain < 2.7 for gain in gains)
