"""Recipes by name and from files, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litehrnet_cuda.data.augmentation import (
    MMPOSE1_COCO,
    MMPOSE1_MPII,
    OFFICIAL_COCO,
    OFFICIAL_MPII,
    Augmentation,
)
from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
from litehrnet_cuda.engine.recipe_files import (
    DEFAULT,
    FOLDER,
    differences,
    list_recipes,
    load_recipe,
    parse_value,
    recipe_of,
    settings,
    to_json,
)
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import list_models

# The official configurations, which the names say: lr, samples_per_gpu times eight GPUs, image_size, sigma, and the
# probability of half bodies; all have 210 epochs with steps at 170 and 200 and 500 iterations of warm-up.
OFFICIAL = {
    "coco_256x192": (2e-3, 8 * 64, (192, 256), 2, 0.3, 30),
    "coco_384x288": (2e-3, 8 * 32, (288, 384), 3, 0.3, 30),
    "mpii_256x256": (2e-3, 8 * 32, (256, 256), 2, 0, 30),
    "mmpose1_coco_256x192": (5e-4, 8 * 64, (192, 256), 2, 0.3, 60),
    "mmpose1_coco_384x288": (5e-4, 8 * 32, (288, 384), 3, 0.3, 60),
    "mmpose1_mpii_256x256": (5e-4, 8 * 64, (256, 256), 2, 0, 60),
}


SEGMENTATION = ("cityscapes_512x1024", "generated_segmentation")


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("model", list_models())
def test_official_recipes_for_all_networks(name: str, model: str) -> None:
    recipe = load_recipe(f"{model}_{name}")
    training, augmentation = recipe.training, recipe.augmentation
    assert recipe.model == model
    found = (training.learning_rate, training.reference_batch, recipe.input_size, recipe.sigma)
    assert (*found, augmentation.half_body_probability, augmentation.rotation) == OFFICIAL[name]
    assert training.batch_size * 8 == training.reference_batch
    assert (training.epochs, training.warm_up_steps, training.decay, training.clip_norm) == (210, 500, "step", 0)
    assert (augmentation.flip_probability, augmentation.scale) == (0.5, 0.25)
    assert (recipe.decoder, recipe.flip_test) == ("quarter", True)
    assert recipe.data == name.removeprefix("mmpose1_").split("_")[0]
    assert training.workers == (2 if recipe.data == "mpii" else 4)


@pytest.mark.parametrize(
    ("name", "augmentation"),
    [
        ("coco_256x192", OFFICIAL_COCO),
        ("mpii_256x256", OFFICIAL_MPII),
        ("mmpose1_coco_256x192", MMPOSE1_COCO),
        ("mmpose1_mpii_256x256", MMPOSE1_MPII),
    ],
)
def test_augmentation_is_that_of_the_source(name: str, augmentation: Augmentation) -> None:
    assert load_recipe(name).augmentation == augmentation


def test_the_default_is_the_official_recipe_without_scaling() -> None:
    assert load_recipe() == load_recipe(DEFAULT) == Recipe()


def test_all_recipes_are_listed_and_load() -> None:
    recipes = list_recipes()
    assert set(recipes) == {*OFFICIAL, *SEGMENTATION, DEFAULT} == {path.stem for path in FOLDER.iterdir()}
    assert all(recipes.values()), "each says what it is"


def test_a_name_without_a_network_is_of_the_recipe_s_own() -> None:
    assert load_recipe("coco_256x192") == load_recipe("litehrnet_18_coco_256x192")


def test_single_settings_are_changed() -> None:
    changes = {"training.ema": 0.9998, "augmentation.rotation": 60, "input_size": [96, 128], "model": "litehrnet_30"}
    recipe = load_recipe("coco_256x192", changes)
    assert (recipe.training.ema, recipe.augmentation.rotation, recipe.input_size) == (0.9998, 60.0, (96, 128))
    assert (recipe.model, recipe.training.batch_size) == ("litehrnet_30", 64)


def test_a_saved_recipe_gives_itself(tmp_path: Path) -> None:
    recipe = load_recipe("mpii_256x256", {"training.amp": "bf16", "training.save_every": "7min"})
    file = tmp_path / "recipe.json"
    file.write_text(to_json(recipe))
    assert load_recipe(file) == recipe == recipe_of(json.loads(file.read_text()), "file")


def test_a_recipe_of_one_s_own_builds_on_others(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "coco_384x288"\nabout = "mine"\n[training]\nlearning_rate = 1\n')
    (tmp_path / "yours.toml").write_text('base = "mine.toml"\n[training]\nsave_every = 500\n')
    recipe = load_recipe(tmp_path / "yours.toml")
    assert (recipe.training.learning_rate, recipe.training.save_every, recipe.sigma) == (1.0, "500", 3.0)


def test_settings_have_dotted_names() -> None:
    found = settings(Recipe())
    assert found["training.epochs"] == 210
    assert found["input_size"] == [192, 256]
    assert len(found) > len(TrainConfig.__dataclass_fields__) + len(Augmentation.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("fp16", "fp16"), ("10min", "10min"), ("", "")],
)
def test_values_are_json_or_text(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "coco_256x129",
            "unknown recipe 'coco_256x129'; expected one of cityscapes_512x1024, ",
        ),
        ("coco_256x129", "or a .toml or .json file; did you mean 'coco_256x192'?"),
        ("litehrnet_81_coco_256x192", "did you mean 'litehrnet_18_coco_256x192'?"),
        ("absent.toml", "absent.toml: expected a recipe, and it cannot be read: No such file"),
    ],
)
def test_unknown_recipes_are_said(name: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_recipe(name)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.emma": 1}, "generated: there is no setting 'training.emma'; did you mean 'training.ema'?"),
        ({"clip": 1}, "there is no setting 'clip'; did you mean 'training.clip_norm'?"),
        ({"frobnicate": 1}, "there is no setting 'frobnicate'"),
        ({"training.learning_rate": -1}, "training.learning_rate: expected a positive number, got -1"),
        ({"training": 1}, "there is no setting 'training'"),
        ({"training.epochs": 1.5}, "training.epochs: expected a whole number, got 1.5"),
        ({"training.epochs": "many"}, "training.epochs: expected a whole number, got 'many'"),
        ({"training.ema": None}, "training.ema: expected a number, got None"),
        ({"input_size": None}, "input_size: expected a list such as [int, int], got None"),
        ({"training.ema": "much"}, "training.ema: expected a number, got 'much'"),
        ({"training.compile": 1}, "training.compile: expected true or false, got 1"),
        ({"training.amp": "fp8"}, "training.amp: expected one of none, fp16, bf16, got 'fp8'"),
        ({"decoder": "argmax"}, "decoder: expected one of quarter, quarter_per_axis, dark, udp, got 'argmax'"),
        ({"input_size": 256}, "input_size: expected a list such as [int, int], got 256"),
        ({"model": "litehrnet_81"}, "unknown model 'litehrnet_81'"),
        ({"augmentation.scale": 3}, "augmentation.scale: expected at least 0 and less than 1, got 3"),
    ],
    ids=str,
)
def test_unusable_changes_are_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_recipe(changes=changes)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", "there is no setting 'epochs'; did you mean 'training.epochs'?"),
        ("[training]\nepoch = 3", "there is no setting 'training.epoch'; did you mean 'training.epochs'?"),
        ("training = 3", "training: expected a table of settings, got 3"),
        ("model =", "expected a recipe in TOML"),
        ('base = "mine.toml"', "its base leads back to itself"),
        ("base = 3", "base: expected the name of a recipe or a file, got 3"),
        ('base = "nothing"', "nothing: expected a recipe, and it cannot be read"),
    ],
)
def test_unusable_files_are_said(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_recipe(file)
    assert str(refused.value).startswith(str(tmp_path))
    assert message in str(refused.value)


def test_json_that_is_no_recipe_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="expected the settings of a recipe, got list"):
        load_recipe(tmp_path / "list.json")


def test_only_what_changes_the_outcome_is_a_difference() -> None:
    recipe = Recipe()
    other = replace(recipe, training=replace(recipe.training, workers=3, save_every="5", epochs=4))
    assert differences(recipe, other) == {"training.epochs": (210, 4)}


def test_official_recipes_clip_boxes_as_the_official_code_does() -> None:
    conventions = {name: load_recipe(name).box_convention for name in list_recipes() if name not in SEGMENTATION}
    official = {"coco_256x192", "coco_384x288"}
    assert {name for name, convention in conventions.items() if convention == "official"} >= official
    assert all(conventions[name] == "mmpose1" for name in conventions if name.startswith(("mmpose1", "generated")))


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    """All of "training." looks alike from the first nine letters on."""
    with pytest.raises(InputError, match=r"'training\.nope'$"):
        load_recipe(changes={"training.nope": 1})
