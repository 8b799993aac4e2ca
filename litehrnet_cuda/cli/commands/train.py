"""`litehrnet train`: a network for poses or segmentation by a recipe, on generated people or data of your own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import DECODER_NAMES, at_least_one, image_size, whole_number

if TYPE_CHECKING:
    import torch
    from torch import nn

    from litehrnet_cuda.engine.distributed import Processes
    from litehrnet_cuda.engine.evaluate import Evaluation
    from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
    from litehrnet_cuda.engine.recipe_files import AnyRecipe
    from litehrnet_cuda.engine.run_files import RunFiles
    from litehrnet_cuda.engine.start import Start

IMAGES = 2000  # of drawn people to train with

EPILOG = """\
A run that was stopped goes on with the same command, to the bit. docs/training.md says more, also on several GPUs:
  torchrun --nproc-per-node 8 -m litehrnet_cuda train litehrnet_30_coco_256x192 --data coco --out runs/mine
writes
  OUT/model.safetensors  the weights, with the network's name, joints or classes, and input size
  OUT/best.safetensors   those with the highest score in a validation
  OUT/state.pt           what the training goes on from
  OUT/recipe.json        everything that decided the outcome, beside the data; can be given as RECIPE
  OUT/log.jsonl          loss, learning rate and accuracy of every epoch; OUT/tensorboard where that is installed
  OUT/metrics.json       accuracy on the part to validate with; of people, in their annotated boxes
  OUT/curve.png          loss and accuracy over the steps
  OUT/predictions.png    predictions beside the truth
  OUT/worst_and_best.png the people or images that were found worst, and those that were found best
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "litehrnet train [RECIPE] --out DIR [--data DIR] [options]"
    parser.epilog = EPILOG
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="name or .toml or .json file (default: generated)")
    parser.add_argument("--list", action="store_true", help="show the recipes, and end")
    parser.add_argument("--out", metavar="DIR", help="folder for the results")
    parser.add_argument("--data", metavar="DIR", help="of COCO, MPII, Cityscapes, masks, or .toml (default: generated)")
    parser.add_argument("--images", type=at_least_one, metavar="N", help=f"generated (default: {IMAGES})")
    parser.add_argument("--resume", action="store_true", help="go on in OUT even with another recipe")
    parser.add_argument("--restart", action="store_true", help="train anew, and replace what is in OUT")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    changes = parser.add_argument_group("changes to the recipe")
    changes.add_argument("--model", metavar="NAME", help="network, see `litehrnet summary`")
    changes.add_argument("--weights", metavar="FILE", help="checkpoint to start from; another head starts anew")
    changes.add_argument("--size", type=image_size, metavar="WxH", help="input size, width first; sigma follows it")
    changes.add_argument("--sigma", type=float, metavar="S", help="of the target heat maps")
    changes.add_argument("--decoder", choices=DECODER_NAMES, help="of heat maps; targets suit it")
    changes.add_argument("--epochs", type=at_least_one, metavar="N")
    changes.add_argument("--batch-size", type=at_least_one, metavar="N", help="people at once in each process")
    changes.add_argument("--learning-rate", type=float, metavar="R", help="at the recipe's reference batch")
    changes.add_argument("--decay", choices=("step", "cosine"))
    changes.add_argument("--amp", choices=("none", "fp16", "bf16"), help="mixed precision")
    changes.add_argument("--seed", type=whole_number, metavar="N")
    changes.add_argument("--workers", type=whole_number, metavar="N", help="processes that cut out people")
    changes.add_argument("--save-every", metavar="T", help="state within epochs: 10min, 30s, or steps such as 500")
    changes.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, as in training.ema=0.9998"
    )


# The settings that options of their own change.
_SETTINGS = {
    "model": "model",
    "weights": "training.weights",
    "size": "input_size",
    "sigma": "sigma",
    "decoder": "decoder",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "decay": "training.decay",
    "amp": "training.amp",
    "seed": "training.seed",
    "workers": "training.workers",
    "save_every": "training.save_every",
}


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list()
    from litehrnet_cuda.engine.distributed import connected, own_device
    from litehrnet_cuda.engine.interruption import Interrupted
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.predictors.arguments import choose_device

    if args.out is None:
        raise InputError("expected --out with a folder for the results")
    if args.resume and args.restart:
        raise InputError("expected --resume or --restart, got both")
    if args.data and args.images is not None:
        raise InputError("expected --images, a number of images to draw, or --data, got both; leave out one of them")
    recipe = _recipe(args)
    try:
        device = own_device(choose_device(args.device))
    except InputError:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            return 2  # the first process of a machine says it
        raise
    start: Start = "resume" if args.resume else "anew" if args.restart else "auto"
    with connected(device) as processes:
        try:
            return _train(args, recipe, device, start, processes)
        except Interrupted as stop:
            if not processes.first:
                return 130  # the first process says it
            raise Interrupted(f"{stop}; go on with the same command") from None
        except InputError as error:
            if processes.first:
                raise
            raise InputError(f"process {processes.rank}: {error}") from error


def _list() -> int:
    from litehrnet_cuda.engine.recipe_files import list_recipes, load_recipe
    from litehrnet_cuda.models.registry import list_models

    print(f"{'recipe':22} {'size':8} {'epochs':6} {'batch':6} {'rate':7} {'for':10} what")
    for name, about in list_recipes().items():
        recipe = load_recipe(name)
        training = recipe.training
        size = f"{recipe.input_size[0]}x{recipe.input_size[1]}"
        batch = training.reference_batch or training.batch_size
        print(
            f"{name:22} {size:8} {training.epochs:<6} {batch:<6} {training.learning_rate:<7g} {recipe.data:10} {about}"
        )
    print(f"each also with the name of a network before it: {', '.join(f'{name}_...' for name in list_models())}")
    return 0


_OF = {"coco": "COCO's", "mpii": "MPII's", "cityscapes": "Cityscapes'"}


def _recipe(args: argparse.Namespace) -> AnyRecipe:
    from litehrnet_cuda.engine.recipe import default_sigma
    from litehrnet_cuda.engine.recipe_files import DEFAULT, load_recipe, parse_value
    from litehrnet_cuda.errors import InputError

    changes: dict[str, Any] = {}
    if args.size is not None and load_recipe(args.recipe or DEFAULT).task == "pose":
        changes["sigma"] = default_sigma(args.size)
    for option, setting in _SETTINGS.items():
        value = getattr(args, option)
        if value is not None:
            changes[setting] = value
    for text in args.set:
        name, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--set: expected KEY=VALUE such as training.ema=0.9998, got {text!r:.60}")
        changes[name.strip()] = parse_value(value.strip())
    recipe = load_recipe(args.recipe or DEFAULT, changes)
    if recipe.data != "any" and not args.data:
        raise InputError(
            f"{args.recipe}: is for {_OF[recipe.data]} images, which are not embedded; name their folder with "
            f"--data, or train on generated people: without a recipe, or with generated_segmentation"
        )
    return recipe


def _train(
    args: argparse.Namespace, recipe: AnyRecipe, device: torch.device, start: Start, processes: Processes
) -> int:
    from litehrnet_cuda.data import datasets
    from litehrnet_cuda.data.mask_datasets import find_mask_splits
    from litehrnet_cuda.engine.recipe import Recipe
    from litehrnet_cuda.engine.run import run_training
    from litehrnet_cuda.engine.run_files import RunFiles
    from litehrnet_cuda.engine.start import load_weights, require_fitting_state, state_to_go_on_from
    from litehrnet_cuda.files import output_folder

    source = args.data
    if not source:
        # Before data are drawn, which would replace those of the training that is there.
        before = RunFiles(Path(args.out))
        state = state_to_go_on_from(before, recipe, start)
        network = _network_for_drawn_people(recipe)
        require_fitting_state(state, before, network)
        load_weights(network, recipe.training.weights, state)
        source = data = output_folder(args.out) / "data"
        images, seed = args.images or IMAGES, recipe.training.seed
        # Going on with as many images of the same seed is going on with those that are there, whatever drew them.
        kept = start == "resume" and datasets.drawn_with(data) == (images, seed)

        def draw() -> None:
            if processes.first and not kept:
                datasets.generate_splits(
                    data,
                    train_images=images,
                    val_images=min(200, max(20, images // 10)),
                    seed=seed,
                    replace=start != "auto" or not state.learner,
                )

        processes.gathered(draw)
    common: dict[str, Any] = {
        "device": device, "start": start, "processes": processes, "progress": processes.first
    }  # fmt: skip
    files: RunFiles
    evaluation: Evaluation | SegmentationEvaluation
    if isinstance(recipe, Recipe):
        people = datasets.find_splits(source, box_convention=recipe.box_convention)
        files, evaluation = run_training(args.out, recipe, *people, **common)
        on = f"{len(people[1].without_images(evaluation.skipped).people)} people"
    else:
        masks = find_mask_splits(source)
        files, evaluation = run_training(args.out, recipe, *masks, **common)
        on = f"{len(masks[1]) - len(evaluation.skipped)} images"
    if processes.first:
        print(f"{evaluation.score_name} {evaluation.score:.3f} ({evaluation.measured_in}) on {on}; see {files.folder}")
    return 0


def _network_for_drawn_people(recipe: AnyRecipe) -> nn.Module:
    from litehrnet_cuda.classes import PERSON
    from litehrnet_cuda.engine.recipe import Recipe
    from litehrnet_cuda.keypoints import COCO
    from litehrnet_cuda.models.registry import create_model

    if isinstance(recipe, Recipe):
        return create_model(recipe.model, num_outputs=len(COCO))
    return create_model(
        recipe.model, "segmentation", num_outputs=len(PERSON), head=recipe.head, with_head=recipe.iterative_head
    )
