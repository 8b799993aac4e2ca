"""`litehrnet summary`: what a network costs."""

from __future__ import annotations

import argparse
import json

from litehrnet_cuda.cli.arguments import at_least_one, image_size
from litehrnet_cuda.errors import InputError

EPILOG = """\
official count   the operations that the official repository publishes, in units of 1024^2: convolutions, batch
                 norms, ReLUs, global pooling and fuse upsampling, each module once
executed MACs    multiply-accumulates of the convolutions that run here; the official code runs more, because it
                 evaluates the fuse paths out of branch 0 twice
The official table prints 418.7M for the wider naive network at 256x256 (MPII); this count gives 414.6M there.
All its other nine figures agree.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of networks (default: all)")
    parser.add_argument(
        "--size", type=image_size, default=(192, 256), metavar="WxH", help="input size, width first (default: 192x256)"
    )
    parser.add_argument(
        "--batch", type=at_least_one, default=1, metavar="N", help="images per forward pass (default: 1)"
    )
    parser.add_argument(
        "--num-outputs", type=at_least_one, default=17, metavar="K", help="number of joints (default: 17)"
    )
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
    return _print_plans(args) if args.plan else _print_complexity(args)


def _print_plans(args: argparse.Namespace) -> int:
    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.plan import build_plan
    from litehrnet_cuda.plan.table import plan_figures

    width, height = args.size
    models = [create_model(name, num_outputs=args.num_outputs) for name in args.models or list_models()]
    plans = [build_plan(model, height, width) for model in models]
    if args.json:
        print(json.dumps([plan_figures(plan) for plan in plans], indent=2))
    else:
        print("\n\n".join(map(str, plans)))
    return 0


def _print_complexity(args: argparse.Namespace) -> int:
    from litehrnet_cuda.models.complexity import measure_complexity
    from litehrnet_cuda.models.registry import get_variant, list_models

    width, height = args.size
    results = [
        measure_complexity(
            get_variant(name), num_outputs=args.num_outputs, height=height, width=width, batch=args.batch
        ).to_dict()
        for name in args.models or list_models()
    ]
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
    print(f"input {width}x{height}, batch {args.batch}, {args.num_outputs} joints, fp32")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    return 0
