"""`litehrnet summary`: what a network costs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from litehrnet_cuda.cli.arguments import at_least_one, image_size
from litehrnet_cuda.errors import InputError

EPILOG = """\
official count  what the official repository publishes, in units of 1024^2; its
                418.7M for the wider naive network on MPII is 414.6M here
executed MACs   of the convolutions; the official code runs some of them twice
published mIoU  on Cityscapes val, in percent, after 320,000 iterations, by
                Junjun2016/LiteHRNet
"""
# The values of litehrnet_cuda.models.segmentation.SegmentationHead, which cannot be imported without torch; a test
# compares them. Sizes are of COCO's crops and of Cityscapes' in training.
HEADS = ("fcn", "resize_concat")
SIZES = {"pose": (192, 256), "segmentation": (1024, 512)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of networks (default: all)")
    parser.add_argument(
        "--task", choices=tuple(SIZES), default="pose", metavar="TASK", help="pose or segmentation (default: pose)"
    )
    parser.add_argument("--head", choices=HEADS, metavar="HEAD", help="of segmentation: fcn (default), resize_concat")
    parser.add_argument("--no-iterative-head", action="store_true", help="of segmentation: leave it out")
    parser.add_argument(
        "--size", type=image_size, metavar="WxH", help="input size (default: 192x256; segmentation: 1024x512)"
    )
    parser.add_argument(
        "--batch", type=at_least_one, default=1, metavar="N", help="images per forward pass (default: 1)"
    )
    parser.add_argument("--num-outputs", type=at_least_one, metavar="K", help="joints or classes (default: 17 or 19)")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="list the launches of the inference plan instead, for one image (planned)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    if args.plan and args.batch != 1:
        raise InputError(
            "--batch: not together with --plan, whose figures are for one image; a plan serves all batches"
        )
    if args.task != "segmentation" and (args.head or args.no_iterative_head):
        raise InputError(
            f"{'--head' if args.head else '--no-iterative-head'}: expected --task segmentation with it, because "
            f"networks for {args.task} have but one head"
        )
    args.size = args.size or SIZES[args.task]
    return _print_plans(args) if args.plan else _print_complexity(args)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """How to create a network."""
    options: dict[str, Any] = {"task": args.task}
    if args.num_outputs:
        options["num_outputs"] = args.num_outputs
    if args.task == "segmentation":
        options |= {"head": args.head or "fcn", "with_head": not args.no_iterative_head}
    return options


def _print_plans(args: argparse.Namespace) -> int:
    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.plan import build_plan
    from litehrnet_cuda.plan.table import plan_figures

    width, height = args.size
    models = [create_model(name, **_options(args)) for name in args.models or list_models()]
    if args.task == "segmentation":
        models = [model.backbone for model in models]
    plans = [build_plan(model, height, width) for model in models]
    if args.json:
        print(json.dumps([plan_figures(plan) for plan in plans], indent=2))
    else:
        print("\n\n".join(map(str, plans)))
        if args.task == "segmentation":
            print("\nThese are plans of the backbones: the heads for segmentation follow in PyTorch.")
    return 0


def _print_complexity(args: argparse.Namespace) -> int:
    from litehrnet_cuda.models.complexity import measure_complexity
    from litehrnet_cuda.models.published_segmentation import CITYSCAPES_MIOU
    from litehrnet_cuda.models.registry import NUM_OUTPUTS, get_variant, list_models

    width, height = args.size
    options = _options(args)
    results = [
        measure_complexity(get_variant(name), **options, height=height, width=width, batch=args.batch).to_dict()
        for name in args.models or list_models()
    ]
    is_segmentation = args.task == "segmentation"
    if is_segmentation:
        for result in results:
            published = CITYSCAPES_MIOU.get((result["name"], options["head"], options["with_head"]))
            result |= {"head": options["head"], "iterative_head": options["with_head"]}
            result["published_cityscapes_mIoU"] = published and published.at_320k
    if args.json:
        print(json.dumps(results, indent=2))
        return 0
    rows = [
        ("", *(result["name"] for result in results)),
        ("parameters", *(f"{r['parameters']:,}" for r in results)),
        ("official count", *(f"{r['official_operations_M']:.2f}M" for r in results)),
        ("executed MACs", *(f"{r['macs'] / 1e6:.1f}e6" for r in results)),
        ("  official code", *(f"{r['official_macs'] / 1e6:.1f}e6" for r in results)),
        ("parameter memory", *(f"{r['parameter_bytes'] / 1e6:.1f} MB" for r in results)),
        ("all layers' outputs", *(f"{r['output_bytes'] / 1e6:.1f} MB" for r in results)),
        ("peak in inference", *(f"{r['peak_bytes'] / 1e6:.1f} MB" for r in results)),
    ]
    outputs = f"{options.get('num_outputs', NUM_OUTPUTS[args.task])} {'classes' if is_segmentation else 'joints'}"
    if is_segmentation:
        rows.append(("published mIoU", *(str(r["published_cityscapes_mIoU"] or "none") for r in results)))
        outputs += f", {options['head']} head {'with' if options['with_head'] else 'without'} the iterative head"
    print(f"input {width}x{height}, batch {args.batch}, {outputs}, fp32")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    return 0
