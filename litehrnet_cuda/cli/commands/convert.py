"""`litehrnet convert`: checkpoints of other code bases as files of this package, and the way back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from litehrnet_cuda.cli.arguments import image_size

if TYPE_CHECKING:
    from litehrnet_cuda.classes import ClassSet
    from litehrnet_cuda.keypoints import KeypointSet
    from litehrnet_cuda.models.conversion import ConversionReport

# The values of litehrnet_cuda.models.conversion.Target and litehrnet_cuda.models.registry.Task, which cannot be
# imported without torch; a test compares them.
TARGET_NAMES = ("litehrnet_cuda", "official", "mmpose")
TASK_NAMES = ("pose", "segmentation", "backbone")

EPILOG = """\
INPUT is a .pth of the official repository, mmpose or mmsegmentation, a .pdparams
of PaddleDetection, a .safetensors, or the name of a published checkpoint. Code in
it is never run. The result says what network it is of: create_model(checkpoint=...)
and --checkpoint need no more. It is kept only if it computes the same.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("input", metavar="INPUT", help="the checkpoint")
    parser.add_argument("--out", required=True, metavar="FILE", help=".safetensors, or .pth for others")
    parser.add_argument(
        "--to", choices=TARGET_NAMES, default=TARGET_NAMES[0], metavar="NAME", help="litehrnet_cuda, official or mmpose"
    )
    parser.add_argument("--variant", metavar="NAME", help="network; found by itself, must agree")
    parser.add_argument(
        "--task", choices=TASK_NAMES, metavar="NAME", help="the same, or backbone to leave the head out"
    )
    parser.add_argument("--keypoints", metavar="NAME", help="coco, mpii or a TOML file (default: by number)")
    parser.add_argument("--classes", metavar="NAME", help="cityscapes or person (default: by number)")
    parser.add_argument("--size", type=image_size, metavar="WxH", help="input size that it was trained on")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.models.conversion import convert_checkpoint

    report = convert_checkpoint(
        args.input,
        args.out,
        target=args.to,
        variant=args.variant,
        task=args.task,
        keypoint_set=None if args.keypoints is None else _keypoint_set(args.keypoints),
        class_set=None if args.classes is None else _class_set(args.classes),
        input_size=args.size,
    )
    print(as_json(report) if args.json else as_text(report))
    return 0


def _keypoint_set(name: str) -> KeypointSet:
    from litehrnet_cuda.data.description import read_description
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.keypoints import KEYPOINT_SETS

    if name in KEYPOINT_SETS:
        return KEYPOINT_SETS[name]
    if not name.endswith(".toml"):
        raise InputError(f"--keypoints: expected {', '.join(KEYPOINT_SETS)} or a TOML file of yours, got {name!r}")
    return read_description(name).keypoint_set


def _class_set(name: str) -> ClassSet:
    from litehrnet_cuda.classes import CLASS_SETS
    from litehrnet_cuda.errors import InputError

    if name not in CLASS_SETS:
        raise InputError(f"--classes: expected one of {', '.join(CLASS_SETS)}, got {name!r}")
    return CLASS_SETS[name]


def as_json(report: ConversionReport) -> str:
    """The report for programs."""
    fields = {
        "source": str(report.source),
        "layout": report.layout,
        "source_sha256": report.source_sha256,
        "known_by": report.known_by,
        "out": str(report.out),
        "target": report.target,
        "out_sha256": report.out_sha256,
        "metadata": json.loads(report.metadata.to_json()),
        "assumed": report.assumed,
        "tensors": report.tensors,
        "parameters": report.parameters,
        "added": report.added,
        "left_out": list(report.left_out),
    }
    return json.dumps(fields, indent=2)


def as_text(report: ConversionReport) -> str:
    """The report as aligned lines."""
    network = report.metadata
    outputs = f", {network.num_outputs} outputs" if network.num_outputs else ""
    rows = {
        "read": f"{report.source}, {report.layout} names",
        "  sha256": report.source_sha256,
        "network": f"{network.variant}, {network.task}{outputs}, known by {report.known_by}",
    }
    if network.task == "pose":
        rows["joints"] = _names(network.keypoint_set, report.assumed, "--keypoints")
    if network.task == "segmentation":
        rows["classes"] = _names(network.class_set, report.assumed, "--classes")
        rows["head"] = f"{network.head}, {'with' if network.iterative_head else 'without'} the iterative head"
    rows["input"] = "x".join(map(str, network.input_size)) if network.input_size else "size not known; see --size"
    rows["images"] = (
        f"red, green, blue of 0 to 1, less {', '.join(map(str, network.mean))}, "
        f"divided by {', '.join(map(str, network.std))}"
    )
    counters = f"; {report.added} counters of batch norms added, as zero" if report.added else ""
    rows["weights"] = f"{report.tensors:,} tensors, {report.parameters:,} parameters{counters}"
    rows["left out"] = _shortened(report.left_out) or "nothing"
    width, height = report.trial_size
    rows["verified"] = f"loaded strictly, the same output to the bit for a random image of {width}x{height}"
    rows["wrote"] = f"{report.out}, {report.out.stat().st_size / 1e6:.1f} MB"
    if report.target != TARGET_NAMES[0]:
        rows["wrote"] += f", {report.target} names, weights alone"
    rows["  sha256 "] = report.out_sha256
    return "\n".join(f"{label:<10}{text}" for label, text in rows.items())


def _names(names: KeypointSet | ClassSet | None, assumed: bool, option: str) -> str:
    if names is None:
        return f"not known; see {option}"
    return f"{names.name}, assumed because they are as many; see {option}" if assumed else names.name


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
