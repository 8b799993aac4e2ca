"""Pictures and files that show what a network for segmentation has learnt, and where it fails."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import output_folder, written_whole
from litehrnet_cuda.metrics.undefined import with_nulls
from litehrnet_cuda.predictors.segmenter import Segmenter
from litehrnet_cuda.results import Segmentation
from litehrnet_cuda.visualize import contact_sheet

Array = np.ndarray[Any, Any]


def predictions_beside_truth(segmenter: Segmenter, annotations: MaskAnnotations, count: int = 8) -> Array:
    """A sheet of pairs: the annotated classes, and what the segmenter finds.

    Args:
        segmenter: what to show.
        annotations: images and truth; the first ``count`` images are taken.
        count: number of pairs.

    Returns:
        ``[H, W, 3]`` uint8 BGR.
    """
    indices = range(min(count, len(annotations)))
    names = [annotations.images[index].image.name for index in indices]
    return _sheet(segmenter, annotations, indices, names, "Truth and prediction on unseen images")


def worst_and_best(
    segmenter: Segmenter, found: SegmentationEvaluation, annotations: MaskAnnotations, count: int = 4
) -> Array:
    """A sheet of images: those with the lowest and with the highest mIoU, each beside the truth.

    Args:
        segmenter: what was measured.
        found: what was found.
        annotations: the truth it was measured with.
        count: number of images in each of the two rows, or fewer if there are fewer.

    Returns:
        ``[H, W, 3]`` uint8 BGR.

    Raises:
        InputError: if no image has a labelled pixel.
    """
    order = sorted((index for index, score in found.of_images.items() if score >= 0), key=found.of_images.__getitem__)
    if not order:
        raise InputError(f"{annotations.place}: expected an image with labelled pixels, got none to show")
    count = min(count, max(1, len(order) // 2))
    chosen = [("worst", place, index) for place, index in enumerate(order[:count], 1)]
    chosen += [("best", place, index) for place, index in enumerate(order[-count:][::-1], 1)]
    titles = [
        f"{kind} {place}: mIoU {found.of_images[index]:.2f}, {annotations.images[index].image.name}"
        for kind, place, index in chosen
    ]
    heading = f"Truth and prediction: {count} worst and {count} best of {len(order)} images ({found.measured_in})"
    return _sheet(segmenter, annotations, [index for _, _, index in chosen], titles, heading, columns=2 * count)


def _sheet(
    segmenter: Segmenter,
    annotations: MaskAnnotations,
    indices: Sequence[int],
    titles: Sequence[str],
    heading: str,
    columns: int = 4,
) -> Array:
    pictures, lines = [], []
    for index, title in zip(indices, titles, strict=True):
        image, labels = annotations.read(index)
        pictures += [Segmentation(labels, annotations.class_set).draw(image), segmenter(image).draw(image)]
        lines += [f"truth, {title}", "predicted"]
    height, width = pictures[0].shape[:2]
    scale = min(1.0, 480 / max(height, width))  # of a cell of the sheet
    cell = round(width * scale), round(height * scale)
    return contact_sheet(pictures, lines, columns, cell, heading)


def write_report(
    folder: str | Path,
    segmenter: Segmenter,
    found: SegmentationEvaluation,
    annotations: MaskAnnotations,
    details: Mapping[str, Any],
) -> list[Path]:
    """Leaves an evaluation in a folder, which is created.

    ``metrics.json`` has the details and the figures (null for what is nowhere), ``confusion.csv`` how many pixels of
    the class of a row were taken for the class of a column, ``worst_and_best.png`` images.

    Args:
        folder: files of an earlier evaluation in it are replaced.
        segmenter: what was measured.
        found: what to leave.
        annotations: the truth it was measured with.
        details: how it was made; plain values.

    Returns:
        the files.
    """
    folder = output_folder(folder)
    files = [folder / name for name in ("metrics.json", "confusion.csv", "worst_and_best.png")]
    figures = with_nulls(found.metrics)
    with written_whole(files[0]) as draft:
        draft.write_text(json.dumps({"mode": found.mode, **details, **figures}, indent=1) + "\n", encoding="utf-8")
    names = found.class_set.names
    with written_whole(files[1]) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *names])
        writer.writerows([name, *row] for name, row in zip(names, found.matrix.tolist(), strict=True))
    with written_whole(files[2]) as draft:
        draft.write_bytes(encode_image(worst_and_best(segmenter, found, annotations), ".png"))
    return files
