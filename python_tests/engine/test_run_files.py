"""Where a run leaves its results."""

from __future__ import annotations

from pathlib import Path

from litehrnet_cuda.engine.run_files import RunFiles


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    names = [name for name, kind in vars(RunFiles).items() if isinstance(kind, property)]
    places = {name: getattr(files, name) for name in names}
    assert {place.parent for place in places.values()} == {tmp_path}
    assert len(set(places.values())) == len(names)
    for name, place in places.items():
        if name == "tensorboard":
            place.mkdir()
            (place / "events").touch()
        else:
            place.touch()
    (tmp_path / "notes.txt").touch()
    files.clear()
    # The recipe is written at once when a run begins.
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.json", "notes.txt"}
    files.clear()  # also where there is nothing
