"""What `litehrnet check-data` says about images with masks, and draws of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litehrnet_cuda.data.mask_check import MaskReport

COLUMNS = 4


def check_masks(args: argparse.Namespace) -> int:
    """`litehrnet check-data` of images with masks."""
    from tqdm import tqdm

    from litehrnet_cuda.cli.checking import print_problems, progress_on, verdict
    from litehrnet_cuda.data.mask_check import check_mask_splits
    from litehrnet_cuda.data.mask_datasets import locate_mask_splits

    splits = locate_mask_splits(args.path)
    with tqdm(unit="image", disable=None, leave=False) as bar:
        reports = check_mask_splits(
            splits, decode=not args.fast, threads=os.cpu_count() or 1, progress=progress_on(bar)
        )
    for name, report in reports.items():
        print(f"{name}: {splits[name].place}")
        print_problems(report, args.first)
        print_classes(report)
    if args.out:
        drawn = draw(args.out, reports, args)
        print(f"see {args.out}" if drawn else f"no image can be drawn, so {args.out} is not written")
    return verdict(reports.values())


def print_classes(report: MaskReport) -> None:
    """The figures of one part: images, and how much of them each class has."""
    if report.annotations is None:
        return
    names = report.annotations.class_set.names
    print(f"  {len(report.annotations)} images, {len(names)} classes")
    total = int(report.pixels.sum())
    if not total:
        return
    width = max(map(len, names))
    print(f"    {'class':<{width}} {'pixels':>8} {'images':>8}")
    for name, pixels, images in zip(names, report.pixels, report.images, strict=True):
        print(f"    {name:<{width}} {pixels / total:>8.2%} {images:>8}")


def draw(file: str, reports: dict[str, MaskReport], args: argparse.Namespace) -> bool:
    """Draws images of all parts as annotated and as augmented; False if there are none that can be read."""
    import numpy as np

    from litehrnet_cuda.data.images import encode_image
    from litehrnet_cuda.data.mask_dataset import MaskDataset
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import written_whole
    from litehrnet_cuda.results import Segmentation
    from litehrnet_cuda.visualize import contact_sheet

    drawable = {name: report.annotations for name, report in reports.items() if report.annotations is not None}
    pictures, titles = [], []
    for part, (name, found) in enumerate(drawable.items()):
        count = args.samples // len(drawable) + (part < args.samples % len(drawable))
        dataset = MaskDataset(found, args.size, seed=args.seed, bad_images="skip")
        for row in np.random.default_rng((args.seed, part)).permutation(len(found)).tolist():
            if count == 0:
                break
            try:
                shown = [found.read(row), dataset.crop(row)]
            except InputError:  # of the image, and reported
                continue
            pictures += [Segmentation(labels, found.class_set).draw(image) for image, labels in shown]
            titles += [f"{name} {found.images[row].image.name}", "as training sees it"]
            count -= 1
    if not pictures:
        return False
    sheet = contact_sheet(pictures, titles, COLUMNS, (320, 240), "As annotated, and as training sees it")
    with written_whole(Path(file)) as draft:
        draft.write_bytes(encode_image(sheet, draft.suffix))
    return True
