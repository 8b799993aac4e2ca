"""Recipes as files: those that come with the package, your own in TOML or JSON, and single settings changed.

A file holds the fields of :class:`~litehrnet_cuda.engine.recipe.Recipe`, or of
:class:`~litehrnet_cuda.engine.segmentation_recipe.SegmentationRecipe` with ``task = "segmentation"``; those with fields
of their own as tables.
``base = "name"`` takes everything else from another recipe, and ``about`` says in a few words what it is.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import list_models

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
DEFAULT = "generated"
Table = dict[str, Any]
AnyRecipe = Recipe | SegmentationRecipe
RECIPES: dict[str, type[AnyRecipe]] = {"pose": Recipe, "segmentation": SegmentationRecipe}  # by task


def list_recipes() -> dict[str, str]:
    """Names of the recipes that come with the package, and what each is."""
    return {path.stem: str(_read_table(path).get("about", "")) for path in sorted(FOLDER.glob("*.toml"))}


def load_recipe(name_or_path: str | Path = DEFAULT, changes: Mapping[str, Any] | None = None) -> AnyRecipe:
    """A recipe by name or from a file, with some settings changed.

    Args:
        name_or_path: one of :func:`list_recipes`, with the name of a network before it if it is not for the recipe's
            own, as in ``"litehrnet_30_coco_256x192"``; or a ``.toml`` file, or the ``recipe.json`` of a run.
        changes: settings by dotted name, as in ``{"training.ema": 0.9998}``.

    Raises:
        InputError: for an unknown recipe or setting, with the nearest known one, or an unusable value.
    """
    source, table = _find(str(name_or_path))
    for name, value in (changes or {}).items():
        _change(table, name, value, source)
    return recipe_of(table, source)


def settings(value: Any, prefix: str = "") -> Table:
    """All settings of a recipe by dotted name, with values as JSON has them."""
    found: Table = {}
    for field in dataclasses.fields(value):
        name, content = f"{prefix}{field.name}", getattr(value, field.name)
        if dataclasses.is_dataclass(content):
            found |= settings(content, f"{name}.")
        else:
            found[name] = list(content) if isinstance(content, tuple) else content
    return found


def differences(one: AnyRecipe, other: AnyRecipe) -> dict[str, tuple[Any, Any]]:
    """The settings, as ``training.epochs``, in which recipes give other outcomes, with both values; None where one has
    no such setting."""
    ours, theirs = settings(one.outcome()), settings(other.outcome())
    pairs = {name: (ours.get(name), theirs.get(name)) for name in (*ours, *theirs)}
    return {name: (before, now) for name, (before, now) in pairs.items() if before != now}


def to_json(recipe: AnyRecipe) -> str:
    """The resolved recipe, as :func:`load_recipe` takes it from a file."""
    return json.dumps(dataclasses.asdict(recipe), indent=1) + "\n"


def recipe_of(values: Mapping[str, Any], source: str) -> AnyRecipe:
    """A recipe from what :func:`dataclasses.asdict` made of it.

    Raises:
        InputError: if it is none.
    """
    recipe: AnyRecipe = _build(_kind(values, source), dict(values), source)
    return recipe


def parse_value(text: str) -> Any:
    """The value of a setting from the command line: JSON such as ``0.5``, ``true`` or ``[192, 256]``, or else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _find(name: str) -> tuple[str, Table]:
    """What to call it in messages, and its content."""
    path = Path(name)
    if path.suffix in (".toml", ".json"):
        return name, _read_with_base(path)
    known = list_recipes()
    if name in known:
        return name, _read_with_base(FOLDER / f"{name}.toml")
    for model in list_models():
        if name.removeprefix(f"{model}_") in known and name.startswith(f"{model}_"):
            return name, _read_with_base(FOLDER / f"{name.removeprefix(f'{model}_')}.toml") | {"model": model}
    near = _nearest(name, [*known, *(f"{model}_{recipe}" for model in list_models() for recipe in known)])
    raise InputError(
        f"unknown recipe {name!r:.80}; expected one of {', '.join(known)}, with or without the name of a network and _ "
        f"before it, or a .toml or .json file{near}"
    )


def _read_with_base(path: Path, above: tuple[Path, ...] = ()) -> Table:
    if path in above:
        raise InputError(f"{path}: its base leads back to itself")
    table = _read_table(path)
    base = table.pop("base", None)
    table.pop("about", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise InputError(f"{path}: base: expected the name of a recipe or a file, got {base!r:.60}")
    known = FOLDER / f"{base}.toml"
    return _merged(_read_with_base(known if known.is_file() else path.parent / base, (*above, path)), table)


def _read_table(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: expected a recipe, and it cannot be read: {error.strerror}") from None
    except ValueError as error:  # of JSON, of TOML, and of UTF-8
        raise InputError(f"{path}: expected a recipe in {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected the settings of a recipe, got {type(content).__name__}")
    return content


def _merged(base: Table, changes: Table) -> Table:
    result = dict(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if both else value
    return result


def _change(table: Table, name: str, value: Any, source: str) -> None:
    known = _names(_kind(table, source))
    if name not in known:
        raise InputError(f"{source}: there is no setting {name!r:.60}{_nearest(name, known)}")
    *parts, last = name.split(".")
    for part in parts:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"{source}: {part}: expected a table of settings, got {table!r:.60}")
    table[last] = value


def _kind(table: Mapping[str, Any], source: str) -> type[AnyRecipe]:
    """What a table is a recipe for: poses, if it does not say."""
    task = table.get("task", "pose")
    if not isinstance(task, str) or task not in RECIPES:
        raise InputError(f"{source}: task: expected one of {', '.join(RECIPES)}, got {task!r:.60}")
    return RECIPES[task]


def _names(kind: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    names: list[str] = []
    for name, content in _fields(kind):
        names += _names(content, f"{prefix}{name}.") if dataclasses.is_dataclass(content) else [prefix + name]
    return names


def _fields(kind: Any) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return ((field.name, hints[field.name]) for field in dataclasses.fields(kind))


def _nearest(name: str, known: list[str]) -> str:
    # By the last part, for those who leave "training." out, and because with it everything in "training." looks alike.
    last = {other.rpartition(".")[2]: other for other in known}
    near = difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.6)
    return f"; did you mean {last[near[0]]!r}?" if near else ""


def _build(kind: Any, table: Any, source: str, prefix: str = "", within: Any = None) -> Any:
    """A dataclass from a table, field by field; ``within`` is what it is a part of."""
    if not isinstance(table, dict):
        raise InputError(f"{source}: {prefix[:-1]}: expected a table of settings, got {table!r:.60}")
    known = dict(_fields(kind))
    for name in table:
        if name not in known:
            near = _nearest(f"{prefix}{name}", _names(within or kind))
            raise InputError(f"{source}: there is no setting {prefix + str(name)!r:.60}{near}")
    return kind(
        **{name: _convert(known[name], value, source, prefix + name, within or kind) for name, value in table.items()}
    )


def _convert(kind: Any, value: Any, source: str, name: str, within: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, source, f"{name}.", within)
    converted = _fitting(kind, value)
    if converted is None:
        raise InputError(f"{source}: {name}: expected {_in_words(kind)}, got {value!r:.60}")
    return converted


def _fitting(kind: Any, value: Any) -> Any:
    """The value as a field of that type takes it, or None if it cannot."""
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return value if value in arguments else None
    if get_origin(kind) in (Union, UnionType):
        fits = (_fitting(one, value) for one in arguments if one is not type(None))
        return next((one for one in fits if one is not None), None)
    if get_origin(kind) is tuple:
        kinds = arguments[:1] * len(value) if isinstance(value, list) and arguments[-1] is Ellipsis else arguments
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            return None
        items = tuple(_fitting(one, item) for one, item in zip(kinds, value, strict=True))
        return None if None in items else items
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # as in save_every = 500
    return value if type(value) is kind else None


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list such as [{', '.join(getattr(one, '__name__', '...') for one in get_args(kind))}]"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, str(kind))
