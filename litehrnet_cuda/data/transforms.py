"""From a box in an image to the network's input, and from the network's output back into the image.

A *box* becomes a *centre* and a *scale*: the width and height, in image pixels, of the region that is cut out.
It has the aspect ratio of the network's input and is 1.25 times as large as the box. An affine *warp matrix* maps that
region to the crop. Images are uint8 BGR, as OpenCV reads them.

``udp`` switches to Unbiased Data Processing (Huang et al., CVPR 2020): the region then spans the distance between
the centres of the first and the last pixel of the crop, one pixel less than the crop is wide.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

BoxConvention = Literal["official", "mmpose1"]
BOX_CONVENTIONS: tuple[BoxConvention, ...] = get_args(BoxConvention)

PADDING = 1.25
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, of values 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)
_MEAN, _STD = np.array(IMAGENET_MEAN, dtype=np.float32), np.array(IMAGENET_STD, dtype=np.float32)


def xywh_to_xyxy(boxes: Array) -> Array:
    """Boxes ``[..., 4]`` as (left, top, width, height), COCO's form, to (left, top, right, bottom)."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: Array) -> Array:
    """Boxes ``[..., 4]`` as (left, top, right, bottom) to (left, top, width, height), COCO's form."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def clip_annotated_boxes(boxes: Array, image_size: tuple[int, int], *, convention: BoxConvention = "mmpose1") -> Array:
    """Annotated boxes, clipped to the image.

    Args:
        boxes: ``[..., 4]`` (left, top, width, height) as COCO annotates them.
        image_size: (width, height) of the image in pixels.
        convention: ``mmpose1`` reads the right and lower edge as coordinates, as mmpose 1.x does; ``official`` reads
            them as the *last pixel* of the box, which so loses one pixel of width and height, as the official
            Lite-HRNet repository (mmpose 0.13) does. Centres differ by half a pixel. Detected boxes are not clipped
            and don't differ.

    Returns:
        ``[..., 4]`` (left, top, right, bottom) float64. An empty box stays empty (right <= left or bottom <= top).
    """
    if convention not in BOX_CONVENTIONS:
        raise InputError(f"box_convention: expected one of {', '.join(BOX_CONVENTIONS)}, got {convention!r}")
    boxes = np.asarray(boxes, dtype=np.float64)
    last = np.subtract(image_size, 1)
    if convention == "official":
        first_corner = np.maximum(boxes[..., :2], 0)
        last_corner = np.minimum(first_corner + np.maximum(boxes[..., 2:] - 1, 0), last)
    else:
        first_corner = np.clip(boxes[..., :2], 0, last)
        last_corner = np.clip(boxes[..., :2] + boxes[..., 2:], 0, last)
    return np.concatenate([first_corner, last_corner], axis=-1)


def mpii_boxes(centers: Array, scales: Array) -> Array:
    """Boxes of MPII's people, which are annotated by a centre and a height.

    Args:
        centers: ``[..., 2]``, counted from 1 as MPII does.
        scales: ``[...]`` height of the person over 200 pixels.

    Returns:
        ``[..., 4]`` square boxes (left, top, right, bottom), float64, counted from 0; moved down by 15 x scale
        pixels so that they hold the ankles, as all published results do.
    """
    half = 100.0 * np.asarray(scales, dtype=np.float64)[..., None]
    centers = np.asarray(centers, dtype=np.float64) + 0.15 * half * (0, 1) - 1
    return np.concatenate([centers - half, centers + half], axis=-1)


def boxes_to_centers_scales(
    boxes: Array, input_size: tuple[int, int], *, padding: float = PADDING
) -> tuple[Array, Array]:
    """The regions to cut out for boxes.

    Args:
        boxes: ``[..., 4]`` (left, top, right, bottom) in image pixels; may reach beyond the image.
        input_size: (width, height) of the network's input.
        padding: the region is this many times the box.

    Returns:
        centers ``[..., 2]`` and scales ``[..., 2]`` (width, height), float32, in image pixels.

    Raises:
        InputError: for a box that is not finite or empty.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.shape[-1:] != (4,):
        raise InputError(f"boxes: expected shape [N, 4] (left, top, right, bottom), got {list(boxes.shape)}")
    corners, sizes = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    bad = np.flatnonzero(~(np.isfinite(boxes).all(axis=-1) & (sizes > 0).all(axis=-1)))
    if len(bad):
        box = boxes.reshape(-1, 4)[bad[0]]
        raise InputError(
            f"boxes: expected finite (left, top, right, bottom) with left < right and top < bottom, got {box.tolist()}"
            f" for box {bad[0]}"
        )
    return (corners + 0.5 * sizes).astype(np.float32), fix_aspect_ratio(sizes, input_size, padding=padding)


def fix_aspect_ratio(sizes: Array, input_size: tuple[int, int], *, padding: float = PADDING) -> Array:
    """Grow sizes ``[..., 2]`` on one axis to the aspect ratio of the input, then on both by ``padding``; float32."""
    sizes = np.asarray(sizes, dtype=np.float64)
    ratio = input_size[0] / input_size[1]
    width = np.maximum(sizes[..., 0], sizes[..., 1] * ratio)
    return (padding * np.stack([width, width / ratio], axis=-1)).astype(np.float32)


def warp_matrix(
    center: Array, scale: Array, input_size: tuple[int, int], *, rotation: float = 0.0, udp: bool = False
) -> Array:
    """The affine map from image pixels to crop pixels.

    Args:
        center, scale: ``[2]`` each, from :func:`boxes_to_centers_scales`.
        input_size: (width, height) of the crop.
        rotation: degrees by which the region is turned about its centre; positive turns the content of the crop
            counter-clockwise without and clockwise with ``udp``, as in the published implementations.
        udp: see the head of this file.

    Returns:
        ``[2, 3]`` float64.
    """
    # Rounded to float32 where mmpose 1.x rounds: then the crops equal its crops bit by bit.
    center, scale = np.asarray(center, dtype=np.float32), np.asarray(scale, dtype=np.float32)
    size = np.array(input_size, dtype=np.float32)
    angle = np.deg2rad(rotation)
    sin, cos = np.sin(angle), np.cos(angle)
    if udp:
        stretch = (size - 1) / scale
        turn = np.array([[cos, -sin], [sin, cos]], dtype=np.float32)
        offset = stretch * (scale / 2 - (turn * center).sum(axis=1))
        return np.column_stack([stretch[:, None] * turn, offset]).astype(np.float64)
    left = np.array([-cos, -sin], dtype=np.float64) * scale[0] / 2
    source = _three_points(center, (center + left).astype(np.float32))
    target = _three_points(size / 2, size / 2 - (size[0] / 2, 0))
    return np.asarray(cv2.getAffineTransform(source, target))


def _three_points(first: Array, second: Array) -> Array:
    """``[3, 2]`` float32: two points and the second's neighbour at a right angle, which together fix an affine map."""
    x, y = first - second
    return np.array([first, second, second + np.array((-y, x))], dtype=np.float32)


def warp_keypoints(keypoints: Array, matrix: Array) -> Array:
    """Apply a ``[2, 3]`` warp matrix to points ``[..., 2]``; float32."""
    return np.asarray(np.asarray(keypoints, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def keypoints_to_image(keypoints: Array, centers: Array, scales: Array, input_size: tuple[int, int]) -> Array:
    """Decoded key points in the image they came from; undoes the warp at rotation 0.

    Args:
        keypoints: ``[N, K, 2]`` in crop pixels, as ``codecs.heatmap.decode_heatmaps`` gives them (for all decoders).
        centers, scales: ``[N, 2]``.
        input_size: (width, height) of the crop.

    Returns:
        ``[N, K, 2]`` float32 in image pixels.
    """
    points = np.asarray(keypoints, dtype=np.float64) / input_size - 0.5
    return np.asarray(points * np.asarray(scales)[:, None] + np.asarray(centers)[:, None], dtype=np.float32)


def crop(image: Array, matrix: Array, input_size: tuple[int, int]) -> Array:
    """Cut the warped region out of an image ``[H, W, 3]`` uint8: bilinear, black outside; ``[h, w, 3]`` uint8.

    A fourth channel is carried along: OpenCV warps four in half the time of three, to the same values.
    """
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise InputError(
            f"image: expected uint8 of shape [H, W, 3] (BGR), got {image.dtype} of shape {list(image.shape)}"
        )
    return np.asarray(cv2.warpAffine(image, matrix, input_size, flags=cv2.INTER_LINEAR))


def normalize(image: Array) -> Array:
    """Crop to what the network takes.

    Args:
        image: ``[h, w, 3]`` uint8 BGR; a fourth channel is dropped.

    Returns:
        ``[3, h, w]`` float32 RGB with ImageNet's mean and deviation removed.
    """
    planes = cv2.split(image)
    rgb = np.empty((3, *image.shape[:2]), dtype=np.float32)
    # Channel by channel, each of which stays in the cache meanwhile.
    for out, plane, mean, std in zip(rgb, planes[2::-1], _MEAN, _STD, strict=True):
        out[...] = plane
        out -= mean
        out /= std
    return rgb
