"""The network for semantic segmentation.

The paper reports Lite-HRNet on Cityscapes, but its code for segmentation was not released. The networks here are those
of the published reproduction (Junjun2016/LiteHRNet), in parameters and their names, so that its checkpoints fit.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.heads import FCNHead, ResizeConcatHead
from litehrnet_cuda.models.litehrnet import Branches, LiteHRNet, Variant
from litehrnet_cuda.models.pretrained import Pretrained

SegmentationHead = Literal["fcn", "resize_concat"]
SEGMENTATION_HEADS: tuple[SegmentationHead, ...] = get_args(SegmentationHead)
BRANCHES: dict[SegmentationHead, Branches] = {"fcn": "top", "resize_concat": "all"}  # that a head works on


class SegmentationNetwork(Pretrained, nn.Module):
    """Backbone and segmentation head: a class for every pixel of an image.

    Args:
        backbone: a Lite-HRNet that returns its top branch for ``head="fcn"``, all for ``head="resize_concat"``.
        num_outputs: number C of classes.
        head: ``"fcn"``, :class:`~litehrnet_cuda.models.heads.FCNHead` on the top branch, or ``"resize_concat"``,
            :class:`~litehrnet_cuda.models.heads.ResizeConcatHead` on all branches.

    Shape:
        normalised images ``[N, 3, H, W]``, H and W from 32 up, to logits ``[N, C, ceil(H/4), ceil(W/4)]``

    Raises:
        InputError: for another head, no class, or a backbone that returns other branches than the head works on.
    """

    def __init__(self, backbone: LiteHRNet, num_outputs: int, head: SegmentationHead = "fcn") -> None:
        super().__init__()
        if head not in SEGMENTATION_HEADS:
            raise InputError(f"head: expected one of {', '.join(SEGMENTATION_HEADS)}, got {head!r}")
        if num_outputs < 1:
            raise InputError(f"SegmentationNetwork: expected num_outputs of at least 1, got {num_outputs}")
        if backbone.branches != BRANCHES[head]:
            raise InputError(
                f"SegmentationNetwork: expected a backbone with branches={BRANCHES[head]!r} for head={head!r}, got "
                f"branches={backbone.branches!r}"
            )
        self.head = head
        self.num_outputs = num_outputs
        self.backbone = backbone
        self.decode_head: FCNHead | ResizeConcatHead
        if head == "fcn":
            self.decode_head = FCNHead(backbone.out_channels[0], num_outputs)
        else:
            self.decode_head = ResizeConcatHead(backbone.out_channels, num_outputs)

    @property
    def variant(self) -> Variant:
        """Which Lite-HRNet the backbone is."""
        return self.backbone.variant

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decode_head(self.backbone(x))
        return logits

    def extra_repr(self) -> str:
        return f"head={self.head!r}"
