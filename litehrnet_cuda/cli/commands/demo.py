"""`litehrnet demo`: the whole job, from nothing to pictures."""

from __future__ import annotations

import argparse
import os
import time

from litehrnet_cuda.cli.arguments import at_least_one, whole_number

TRAIN_IMAGES = 2400
VAL_IMAGES = 150
EPOCHS = 5

EPILOG = """\
Draws people with exact key points (different ones to train and to validate with), trains Lite-HRNet-18 from
scratch on crops of 96x128 pixels, evaluates it on the people it has not seen, and draws what it finds beside the
truth; then the same for segmentation, which starts from the weights for poses and learns the masks of the people.
No data are downloaded and no GPU is needed.
The defaults take about seven minutes on two processor cores; equal arguments give equal results on one machine.

writes
  OUT/data               the drawn people, as a COCO folder
  OUT/model.safetensors  the trained network; try `litehrnet predict IMAGE --checkpoint OUT/model.safetensors --out ...`
  OUT/best.safetensors   the weights with the highest average precision after an epoch
  OUT/state.pt           everything that the training would go on from
  OUT/recipe.json        everything that decided the outcome, beside the data
  OUT/metrics.json       average precision
  OUT/log.jsonl          loss, learning rate and average precision of every epoch
  OUT/curve.png          the same as a picture
  OUT/predictions.png    predictions beside the truth
  OUT/worst_and_best.png the people that were found worst, and those that were found best
  OUT/segmentation       the same files for segmentation, with mIoU in place of average precision
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--out", default="runs/demo", metavar="DIR", help="folder for the results (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=at_least_one, default=TRAIN_IMAGES, metavar="N", help="to train with (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=at_least_one, default=EPOCHS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=whole_number, default=0, help="of drawings and training (default: %(default)s)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.cli.segmentation import segmentation_demo
    from litehrnet_cuda.data.datasets import generate_splits
    from litehrnet_cuda.data.pose_dataset import Augmentation
    from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
    from litehrnet_cuda.engine.run import run_training
    from litehrnet_cuda.files import output_folder
    from litehrnet_cuda.predictors.arguments import choose_device

    started = time.monotonic()
    device = choose_device(args.device)
    out = output_folder(args.out)
    count = args.images + VAL_IMAGES
    print(f"drawing {count} images with people into {out / 'data'}, unless they are there", flush=True)
    people = generate_splits(
        out / "data",
        train_images=args.images,
        val_images=VAL_IMAGES,
        seed=args.seed,
        workers=min(4, os.cpu_count() or 1),
    )
    # A short run: small crops, little augmentation because every drawing is new, and a rate that falls to zero.
    recipe = Recipe(
        model="litehrnet_18",
        input_size=(96, 128),
        sigma=1.0,  # half of that for crops of twice the size
        decoder="udp",
        augmentation=Augmentation(scale=0.1, rotation_probability=0.0, half_body_probability=0.0),
        training=TrainConfig(
            epochs=args.epochs, batch_size=16, learning_rate=4e-3, warm_up_steps=100, decay="cosine", seed=args.seed
        ),
    )
    files, evaluation = run_training(out, recipe, *people, device=device, start="anew")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(
        f"AP {evaluation.metrics['AP']:.3f} (AP .5 {evaluation.metrics['AP .5']:.3f}) on {len(people[1].people)} "
        f"unseen generated people (annotated boxes, flip test), after {minutes} min {seconds} s\n"
        f"look at {files.predictions} and {files.curve}; the network is {files.checkpoint}"
    )
    masks, found = segmentation_demo(
        out / "data", out / "segmentation", files.checkpoint, seed=args.seed, device=device
    )
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(
        f"mIoU {found.score:.3f} (person {found.metrics['IoU person']:.3f}) on {len(found.of_images)} unseen generated "
        f"images (whole images), after {minutes} min {seconds} s in all\n"
        f"look at {masks.predictions} and {masks.curve}; the network is {masks.checkpoint}"
    )
    return 0
