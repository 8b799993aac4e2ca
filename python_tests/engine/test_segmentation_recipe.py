"""Recipes for segmentation, from their files too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litehrnet_cuda.data.mask_augmentation import MaskAugmentation
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.engine.recipe_files import differences, load_recipe, settings
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import list_models


@pytest.mark.parametrize("model", list_models())
def test_the_published_recipe_for_cityscapes(model: str) -> None:
    """mmsegmentation's settings, as Junjun2016/LiteHRNet takes them, with its best schedule of 320k steps."""
    recipe = load_recipe(f"{model}_cityscapes_512x1024")
    assert isinstance(recipe, SegmentationRecipe)
    training = recipe.training
    assert (recipe.model, recipe.head, recipe.iterative_head, recipe.data) == (model, "fcn", True, "cityscapes")
    assert (recipe.input_size, recipe.mode, recipe.flip_test) == ((1024, 512), "whole", False)
    assert recipe.augmentation == MaskAugmentation(0.5, 2.0, 0.75, 0.5, 0.5)
    assert (training.optimizer, training.learning_rate, training.momentum, training.weight_decay) == (
        *("sgd", 0.01, 0.9, 5e-4),
    )
    assert (training.decay, training.warm_up_steps) == ("poly", 0)
    assert training.final_rate * training.learning_rate == pytest.approx(1e-4)
    assert (training.batch_size * 8, training.sync_batch_norm) == (training.reference_batch, True)
    steps = training.epochs * (2975 // training.reference_batch)
    assert steps == pytest.approx(320_000, rel=1e-3)


def test_settings_of_the_other_task_are_unknown() -> None:
    with pytest.raises(InputError, match="there is no setting 'sigma'"):
        load_recipe("generated_segmentation", {"sigma": 2.0})
    with pytest.raises(InputError, match="there is no setting 'head'"):
        load_recipe("generated", {"head": "fcn"})
    with pytest.raises(InputError, match=r"did you mean 'augmentation\.least_scale'"):
        load_recipe("generated_segmentation", {"augmentation.last_scale": 2.0})
    with pytest.raises(InputError, match="task: expected one of pose, segmentation, got 'depth'"):
        load_recipe("generated", {"task": "depth"}) and load_recipe({"task": "depth"})  # type: ignore[arg-type]


def test_recipes_of_two_tasks_differ_in_all_that_one_lacks() -> None:
    pose, masks = load_recipe("generated"), load_recipe("generated_segmentation")
    found = differences(pose, masks)
    assert found["task"] == ("pose", "segmentation")
    assert found["sigma"] == (2.0, None)
    assert found["head"] == (None, "fcn")
    assert differences(masks, masks) == {}
    assert set(settings(masks)) == {name for name in found if found[name][1] is not None} | {
        name for name in settings(masks) if settings(pose).get(name) == settings(masks)[name]
    }


def test_workers_do_not_change_the_outcome() -> None:
    recipe = SegmentationRecipe()
    assert replace(recipe, training=TrainConfig(workers=3, save_every="1h")).outcome() == recipe.outcome()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "litehrnet_81"}, "unknown model 'litehrnet_81'"),
        ({"input_size": [16, 64]}, "input_size: expected 32 to"),
        ({"head": "psp"}, "head: expected one of fcn, resize_concat, got 'psp'"),
        ({"mode": "half"}, "mode: expected one of whole, slide"),
        ({"training.optimizer": "lion"}, "optimizer: expected one of adam, sgd, got 'lion'"),
        ({"training.momentum": 1.0}, "momentum: expected at least 0 and less than 1"),
        ({"training.weight_decay": -1.0}, "weight_decay: expected at least 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("generated_segmentation", changes)
