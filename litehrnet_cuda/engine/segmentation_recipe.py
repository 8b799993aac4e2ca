"""What decides the outcome of a training run for segmentation, beside the images to learn from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from litehrnet_cuda.data.mask_augmentation import MaskAugmentation
from litehrnet_cuda.engine.recipe import TrainConfig, require_usable
from litehrnet_cuda.models.segmentation import SegmentationHead
from litehrnet_cuda.predictors.segmenter import Mode

MaskKind = Literal["any", "cityscapes"]


@dataclass(frozen=True)
class SegmentationRecipe:
    """Everything that decides the outcome of a run that trains for segmentation, beside the data.

    Args:
        model: name of the network.
        head: ``"fcn"`` or ``"resize_concat"``.
        iterative_head: whether the backbone ends with the iterative head, which is worth one to three points of mIoU.
        input_size: (width, height) of the parts of images to train with, in pixels; of the windows for ``"slide"``.
        mode: how images are put through the network in validation: ``"whole"`` or in windows that ``"slide"``.
        flip_test: average with the mirrored image in validation.
        augmentation: of the images.
        training: steps, learning rate and so on.
        data: the kind of data that the recipe is for.
        task: tells recipes of one task from those of another.
    """

    model: str = "litehrnet_18"
    head: SegmentationHead = "fcn"
    iterative_head: bool = True
    input_size: tuple[int, int] = (256, 256)
    mode: Mode = "whole"
    flip_test: bool = False
    augmentation: MaskAugmentation = field(default_factory=MaskAugmentation)
    training: TrainConfig = field(default_factory=TrainConfig)
    data: MaskKind = "any"
    task: Literal["segmentation"] = "segmentation"

    def __post_init__(self) -> None:
        require_usable(self.model, self.input_size)

    def outcome(self) -> SegmentationRecipe:
        """The recipe without what changes how a run goes, but not what comes out."""
        return replace(self, training=self.training.outcome())
