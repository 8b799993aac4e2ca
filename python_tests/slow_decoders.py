"""Decoders of heat maps, one map at a time, in float64 beyond the blur: what the package's decoders are compared with.

Written after the papers and mmpose 1.x, apart from the package's code: derivatives of whole maps by NumPy, blur by
OpenCV, one map and one pixel at a time.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]


def decode(heatmaps: Array, input_size: tuple[int, int], decoder: str, blur_kernel_size: int) -> tuple[Array, Array]:
    """What ``litehrnet_cuda.codecs.heatmap.decode_heatmaps`` should return; keypoints are float64."""
    height, width = heatmaps.shape[2:]
    keypoints, scores = np.empty((*heatmaps.shape[:2], 2)), np.empty(heatmaps.shape[:2], np.float32)
    size = np.array([width, height])
    scale = np.array(input_size) / (size - 1 if decoder == "udp" else size)
    for index in np.ndindex(heatmaps.shape[:2]):
        position, scores[index] = decode_one(np.float32(heatmaps[index]), decoder, blur_kernel_size)
        keypoints[index] = position * scale
    return keypoints, scores


def decode_one(heatmap: Array, decoder: str, blur_kernel_size: int) -> tuple[Array, np.float32]:
    """Position (x, y) in heat-map pixels and score of one map ``[h, w]``."""
    if not np.isfinite(heatmap).all():
        return np.array([-1.0, -1.0]), np.float32(0)
    best = (0, 0)
    for pixel in np.ndindex(heatmap.shape):
        if heatmap[pixel] > heatmap[best]:
            best = pixel
    y, x = best
    if heatmap[best] <= 0:
        return np.array([-1.0, -1.0]), heatmap[best]
    if decoder.startswith("quarter"):
        step = quarter_step(heatmap, x, y, per_axis=decoder == "quarter_per_axis")
    else:
        blurred = cv2.GaussianBlur(heatmap, (blur_kernel_size, blur_kernel_size), 0, borderType=cv2.BORDER_CONSTANT)
        if blurred.max() != 0:
            blurred *= heatmap.max() / blurred.max()
        step = dark_step(blurred, x, y) if decoder == "dark" else udp_step(blurred, x, y)
    return np.array([x, y]) + step, heatmap[best]


def quarter_step(heatmap: Array, x: int, y: int, *, per_axis: bool) -> Array:
    height, width = heatmap.shape
    step = np.zeros(2)  # per axis, mmpose 1.x asks less of the other axis
    inside = (1 < x < width - 1, 1 < y < height - 1)
    if inside[0] and (y > 0 if per_axis else inside[1]):
        step[0] = 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
    if inside[1] and (x > 0 if per_axis else inside[0]):
        step[1] = 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return step


def dark_step(blurred: Array, x: int, y: int) -> Array:
    height, width = blurred.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.zeros(2)
    logarithm = np.log(np.maximum(blurred, 1e-10).astype(np.float64))
    # Central differences of central differences, which numpy.gradient takes, are DARK's five-point derivatives.
    along_y, along_x = np.gradient(logarithm)
    (yy, xy), (_, xx) = np.gradient(along_y), np.gradient(along_x)
    hessian = np.array([[xx[y, x], xy[y, x]], [xy[y, x], yy[y, x]]])
    if np.linalg.det(hessian) == 0:
        return np.zeros(2)
    return -np.linalg.inv(hessian) @ (along_x[y, x], along_y[y, x])


def udp_step(blurred: Array, x: int, y: int) -> Array:
    logarithm = np.pad(np.log(np.clip(blurred, 1e-3, 50).astype(np.float64)), 1, mode="edge")
    around = logarithm[y : y + 3, x : x + 3]
    gradient = np.array([around[1, 2] - around[1, 0], around[2, 1] - around[0, 1]]) / 2
    hessian = np.empty((2, 2))
    hessian[0, 0] = around[1] @ (1, -2, 1)
    hessian[1, 1] = around[:, 1] @ (1, -2, 1)
    hessian[0, 1] = hessian[1, 0] = np.sum(around * [[1, -1, 0], [-1, 2, -1], [0, -1, 1]]) / 2
    return -np.linalg.inv(hessian + np.finfo(np.float32).eps * np.eye(2)) @ gradient
