"""Results as files: JSON with everything, and a CSV with a line for each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.gpus import ROOT, commit
from benchmarks.tables import write_csv
from litehrnet_cuda.benchmarking.machine import Load, describe_machine
from litehrnet_cuda.files import written_whole

FOLDER = ROOT / "benchmarks" / "results" / "networks"
KINDS = ("inference", "growth", "training")


class Results:
    """Results that are written after each case: what is there when the user interrupts is complete.

    Args:
        kind: one of `KINDS`, which is the name of the files.
        folder: in which each machine has one of its own.
        settings: how it was measured, as JSON types.
        device: the type of device.
    """

    def __init__(self, kind: str, folder: Path, settings: dict[str, Any], device: str) -> None:
        self._load = Load()
        machine = describe_machine()
        self.path = folder / machine_name(machine, device) / f"{kind}.json"
        self.document: dict[str, Any] = {
            "kind": kind,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(),
            "device": device,
            "machine": machine,
            "settings": settings,
            "load": {},
            "interrupted": False,
            "cases": [],
        }

    def add(self, case: dict[str, Any], *, interrupted: bool = False) -> None:
        """Writes the files with one more case."""
        self.document["cases"].append(case)
        self.document["interrupted"] |= interrupted
        self.document["load"] = self._load.end()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path) as draft:
            draft.write_text(json.dumps(self.document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        rows = list(flat(self.document))
        if rows:
            write_csv(self.path.with_suffix(".csv"), rows)


def flat(document: dict[str, Any]) -> Iterator[dict[str, object]]:
    """The lines of the CSV file."""
    for case in document["cases"]:
        for name, row in case["contenders"].items():
            yield {**case["case"], "contender": name, **row, "rounds": case["rounds"], "commit": document["commit"]}


def machine_name(machine: dict[str, Any], device: str) -> str:
    """The name of a machine as that of a folder, such as amd-epyc-avx512-2-cores."""
    if device == "cuda" and machine["gpus"]:
        return _slug(machine["gpus"][0])
    widest = next((name for name in ("avx512", "avx2", "avx") if _has(machine, name)), "")
    return _slug(f"{machine['cpu']} {widest} {machine['cores']} cores")


def _has(machine: dict[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in machine["instruction_sets"])


def _slug(text: str) -> str:
    text = re.sub(r"\((?:r|tm)\)|@.*?hz|\bcpu\b|\bprocessor\b", " ", text.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", text))


def all_results(kind: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Of every machine, those with the most cases first, so that the order is the same everywhere."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*/{kind}.json"))]
    return sorted(documents, key=lambda document: -len(document["cases"]))
