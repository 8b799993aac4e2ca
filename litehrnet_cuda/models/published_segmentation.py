"""What others published for Lite-HRNet on Cityscapes.

Mean intersection over union in per cent on the 500 images of the fine validation set, whole images of 2048x1024, one
scale, without mirroring, by networks that were trained on crops of 1024x512 in batches of 16 without weights from
another task. Source: the README of Junjun2016/LiteHRNet, which trains them with mmsegmentation.

The authors' own code for segmentation was not released. Their paper (Yu et al., CVPR 2021) reports 76.0 on the
validation set and 75.3 on the test set for Lite-HRNet-30, with a head that it does not describe.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Mean IoU in per cent after so many thousand iterations."""

    at_160k: float
    at_320k: float
    at_640k: float


# By variant, head, and whether the backbone ends with the iterative head.
CITYSCAPES_MIOU: dict[tuple[str, str, bool], Published] = {
    ("litehrnet_18", "fcn", True): Published(71.49, 73.03, 73.02),
    ("litehrnet_18", "fcn", False): Published(69.43, 70.61, 69.38),
    ("litehrnet_18", "resize_concat", True): Published(71.81, 71.96, 71.97),
    ("litehrnet_18", "resize_concat", False): Published(68.99, 70.42, 70.22),
    ("litehrnet_30", "fcn", True): Published(72.65, 74.98, 75.26),
    ("litehrnet_30", "fcn", False): Published(72.78, 72.37, 74.34),
    ("litehrnet_30", "resize_concat", True): Published(73.81, 74.46, 74.20),
    ("litehrnet_30", "resize_concat", False): Published(72.11, 72.12, 72.34),
}
