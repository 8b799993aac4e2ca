"""CSV files, and the Markdown that benchmarks/README.md has between its markers; numbers there are never typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.gpus import ROOT
from benchmarks.prediction import LaunchCounts, predict
from litehrnet_cuda.plan.gpus import GPUS

FOLDER = ROOT / "benchmarks" / "results"
EMULATED = FOLDER / "emulated"
README = ROOT / "benchmarks" / "README.md"

Row = dict[str, str]


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Writes rows of the same columns, and the folders above the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> str:
    """A table whose first columns are text, and whose others are aligned to the right."""
    align = ["---"] * text_columns + ["--:"] * (len(head) - text_columns)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, align, *rows))


def kilobytes(size: int) -> str:
    return f"{size / 1e3:,.0f}" if size >= 9950 else f"{size / 1e3:.1f}"


def case_of(row: Row) -> tuple[str, str, str, str]:
    return row["mode"], row["stage"], row["batch"], row["dtype"]


def summary(launches: Sequence[Row]) -> list[object]:
    """The cells of one case: launches, bytes, ratios, blocks, predicted times."""
    first = launches[0]
    compulsory = int(first["op_read"]) + int(first["op_written"])
    sectors = [int(row["sector_read"]) + int(row["sector_written"]) for row in launches]
    touched = sum(int(row["touched_read"]) + int(row["touched_written"]) for row in launches)
    known = all(row["boundary_read"] for row in launches)
    boundaries = [int(row["boundary_read"]) + int(row["boundary_written"]) if known else 0 for row in launches]
    cells: list[object] = [
        len(launches),
        kilobytes(compulsory),
        f"{kilobytes(sum(boundaries))} ({sum(boundaries) / compulsory:.2f})" if known else "",
        f"{kilobytes(touched)} ({touched / sum(boundaries):.2f})" if known else kilobytes(touched),
        f"{kilobytes(sum(sectors))} ({sum(sectors) / compulsory:.2f})",
        min(int(row["blocks"]) for row in launches),
    ]
    counts = [
        LaunchCounts(int(row["blocks"]), boundary, sector)
        for row, boundary, sector in zip(launches, boundaries, sectors, strict=True)
    ]
    return cells + [str(predict(counts, gpu)) if known else "" for gpu in GPUS]


def emulated_tables(folder: Path = EMULATED) -> str:
    """Traffic and predicted times of every op, then what the launches of the last stage need of a multiprocessor."""
    parts = []
    head = ["case", "launches", "compulsory kB", "at launches kB", "touched kB", "asked for kB", "least blocks"]
    for path in sorted(folder.glob("*.csv")):
        rows = [row for row in read_csv(path) if row["dtype"] != "bfloat16"]
        lines = [
            [" ".join((mode, stage, f"b{batch}", dtype)), *summary(list(launches))]
            for (mode, stage, batch, dtype), launches in groupby(rows, key=case_of)
        ]
        parts += [f"### {path.stem}", markdown([*head, *(f"{gpu.name} µs" for gpu in GPUS)], lines)]
    return "\n\n".join([*parts, "### Registers and occupancy, stage4, batch 1", resources(folder)])


def resources(folder: Path = EMULATED) -> str:
    """Registers and occupancy of the last stage's launches with one image: each kernel once, as the block has it."""
    lines: dict[str, list[object]] = {}
    for path in sorted(folder.glob("*.csv")):
        for row in read_csv(path):
            if (row["stage"], row["batch"]) == ("stage4", "1") and row["dtype"] != "bfloat16":
                sizes = [row["blocks"], row["threads"], row["shared_bytes"]]
                lines.setdefault(row["kernel"], [row["kernel"], *sizes, *occupancies(row)])
    return markdown(["kernel", "blocks", "threads", "shared bytes", *(gpu.name for gpu in GPUS)], lines.values())


def occupancies(row: Row) -> list[str]:
    """Registers and theoretical occupancy by GPU, as python_tests/cuda/machine_code.json has them; else nothing."""
    from benchmarks.emulated import find_tests

    find_tests()
    import machine_code

    kernels = json.loads(machine_code.TABLE.read_text(encoding="utf-8"))["kernels"]
    cells = []
    for gpu in GPUS:
        code = kernels.get(row["kernel"], {}).get(gpu.code)
        if code is None:
            cells.append("")
            continue
        shared = code["shared_bytes"] + int(row["shared_bytes"])
        share = machine_code.occupancy(gpu.architecture, code["registers"], int(row["threads"]), shared)
        cells.append(f"{code['registers']}, {share:.0%}")
    return cells


def measured_tables(folder: Path = FOLDER) -> str:
    """What was measured on GPUs, a table for each op and GPU."""
    parts = []
    for path in sorted(path for path in folder.glob("*/*.csv") if path.parent.name != "emulated"):
        rows = read_csv(path)
        gpu, driver, torch, commit = (rows[0][name] for name in ("gpu", "driver", "torch", "commit"))
        head = [
            "case",
            "provider",
            "mode",
            "median µs",
            "p20 - p80 µs",
            "in a graph µs",
            "host µs",
            "GB/s",
            "% of peak",
        ]
        lines = [
            [
                row["case"],
                row["provider"],
                row["mode"],
                row["median_us"],
                f"{row['p20_us']} - {row['p80_us']}",
                *(row[name] for name in ("graph_us", "host_us", "gb_per_s", "percent_of_peak")),
            ]
            for row in rows
        ]
        title = f"### {path.stem}, {gpu} (driver {driver}, torch {torch}, commit {commit})"
        parts += [title, markdown(head, lines, text_columns=3)]
    return (
        "\n\n".join(parts) or "No GPU has been measured yet; `make gpu-check` on a machine that has one fills this in."
    )


SECTIONS = {"emulated": emulated_tables, "measured": measured_tables}


def with_tables(text: str, sections: dict[str, str]) -> str:
    """The text with what is between `<!-- name -->` and `<!-- /name -->` replaced, for every section."""
    for name, table in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, also_found, after = rest.partition(end)
        if not found or not also_found:
            raise ValueError(f"expected {start} and after it {end}")
        text = f"{before}{start}\n\n{table}\n\n{end}{after}"
    return text


def update_readme(path: Path = README) -> None:
    """Writes the tables of all CSV files into the README."""
    sections = {name: table() for name, table in SECTIONS.items()}
    path.write_text(with_tables(path.read_text(encoding="utf-8"), sections), encoding="utf-8")
