"""`litehrnet train`: a network from scratch, on generated people or a COCO folder."""

from __future__ import annotations

import argparse

from litehrnet_cuda.cli.arguments import DECODER_NAMES, at_least_one, image_size, whole_number

EPILOG = """\
data
  By default people are drawn and written to OUT/data first. --data takes a folder with COCO's layout:
  annotations/person_keypoints_{train2017,val2017}.json (or {train,val}), and the images in folders of
  those names.
writes
  OUT/model.safetensors  the weights, with the network's name, joints and input size
  OUT/recipe.json        everything that decided the outcome, beside the data
  OUT/log.jsonl          loss, learning rate and average precision of every epoch
  OUT/metrics.json       average precision on the validation people, in their annotated boxes
  OUT/curve.png          loss and average precision over the steps
  OUT/predictions.png    predictions beside the truth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--data", metavar="DIR", help="COCO folder (default: generated people)")
    parser.add_argument("--model", default="litehrnet_18", metavar="NAME", help="network (default: %(default)s)")
    parser.add_argument(
        "--size", type=image_size, default=(192, 256), metavar="WxH", help="input size, width first (default: 192x256)"
    )
    parser.add_argument("--sigma", type=float, metavar="S", help="of the target heat maps (default: by size)")
    parser.add_argument("--decoder", choices=DECODER_NAMES, default="quarter", help="(default: %(default)s)")
    parser.add_argument("--epochs", type=at_least_one, default=210, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=at_least_one, default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, metavar="R", help="(default: %(default)s)")
    parser.add_argument("--decay", choices=("step", "cosine"), default="step", help="(default: %(default)s)")
    parser.add_argument(
        "--images", type=at_least_one, default=2000, metavar="N", help="generated (default: %(default)s)"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="(default: %(default)s)")
    parser.add_argument("--workers", type=whole_number, default=0, metavar="N", help="loader processes (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.data.datasets import find_splits, generate_splits
    from litehrnet_cuda.engine.run import Recipe, run_training
    from litehrnet_cuda.engine.train import TrainConfig
    from litehrnet_cuda.files import output_folder
    from litehrnet_cuda.predictors import choose_device

    recipe = Recipe(
        model=args.model,
        input_size=args.size,
        sigma=default_sigma(args.size) if args.sigma is None else args.sigma,
        decoder=args.decoder,
        training=TrainConfig(
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            decay=args.decay,
            seed=args.seed,
            workers=args.workers,
        ),
    )
    device = choose_device(args.device)
    if args.data:
        people = find_splits(args.data)
        out = output_folder(args.out)
    else:
        out = output_folder(args.out)
        people = generate_splits(out / "data", train_images=args.images, val_images=200, seed=args.seed)
    files, evaluation = run_training(out, recipe, *people, device=device)
    print(f"AP {evaluation.metrics['AP']:.3f} on {len(people[1].people)} people; see {files.folder}")
    return 0


def default_sigma(size: tuple[int, int]) -> float:
    """2 at 192x256 and 3 at 288x384, as published, and in proportion to the height elsewhere, but not below 1."""
    return max(1.0, 2.0 * size[1] / 256)
