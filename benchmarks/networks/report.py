"""Tables of the READMEs and the plots, from the committed results: no figure there is typed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpus import ROOT
from benchmarks.networks.results import FOLDER, all_results
from benchmarks.tables import markdown, with_tables
from litehrnet_cuda.benchmarking.contenders import CONTENDERS

NOTHING = "Not measured yet; `python -m benchmarks networks all` does it."
OTHER_TITLES = {"hrnet_w32": "HRNet-W32", "mobilenetv2": "MobileNetV2 + deconvolutions"}
# Columns in this order, whoever else was measured behind them.
ORDER = ("ours", "onnxruntime", "openvino", "tensorrt", "compile", "eager")
# On the first page: one size, images one by one.
HEADLINE = {"height": 256, "width": 192, "batch": 1, "dtype": "float32"}

Document = dict[str, Any]
Tables = Callable[[Sequence[Document]], str]


def title(name: str) -> str:
    """Of a contender, or of another network's: "hrnet_w32/eager"."""
    owner, slash, contender = name.partition("/")
    return f"{OTHER_TITLES[owner]}, {title(contender)}" if slash else CONTENDERS[name].title


def headline(documents: Sequence[Document]) -> str:
    """The table of the first page, of the first machine."""
    if not documents:
        return NOTHING
    document = documents[0]
    cases = [case for case in document["cases"] if HEADLINE.items() <= case["case"].items()]
    names = [name for name in ORDER if any(name in case["contenders"] for case in cases)]
    rows = [[_network(case), case["case"]["threads"], *_cells(case, names)] for case in cases]
    others = [
        [f"{title(name).split(', ', 1)[0]}", case["case"]["threads"], *_other_cells(case, name, names)]
        for case in cases
        for name in _owners(case)
    ]
    head = ["ms, one image of 192x256", "threads", *(title(name) for name in names)]
    picture = "![Milliseconds for one image, ours and others](docs/speed.png)"
    return "\n\n".join([picture, markdown(head, [*rows, *others], text_columns=1), provenance(document)])


def _owners(case: dict[str, Any]) -> list[str]:
    """One contender of each other network that was run beside."""
    found = {name.split("/")[0]: name for name in case["contenders"] if "/" in name}
    return list(found.values())


def _other_cells(case: dict[str, Any], name: str, names: Sequence[str]) -> list[str]:
    owner = name.split("/")[0]
    return [_cell(case["contenders"].get(f"{owner}/{contender}")) for contender in names]


def _cells(case: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [_cell(case["contenders"].get(name), is_ours=name == "ours") for name in names]


def _cell(row: dict[str, Any] | None, *, is_ours: bool = False) -> str:
    """Milliseconds, and in brackets how many times longer than ours in the same rounds."""
    if row is None:
        return ""
    if is_ours:
        return f"**{milliseconds(row['median_ms'])}**"
    behind = "" if row["ratio"] is None else f" ({row['ratio']:.1f})"
    return f"{milliseconds(row['median_ms'])}{behind}"


def milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def provenance(document: Document) -> str:
    """Where figures come from, in a paragraph."""
    machine, load = document["machine"], document["load"]
    where = f"{machine['cpu']}, {', '.join(machine['instruction_sets'])}, {machine['cores']} cores"
    where += f" (ours uses {machine['capability']})" if machine["capability"] and document["device"] == "cpu" else ""
    if document["device"] == "cuda":
        where = f"{machine['gpus'][0]}; host {where}"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rounds = [case["rounds"] for case in document["cases"]]
    busy = load["cores_busy_with_others"]
    others = "" if busy is None else f", other programs kept {busy:g} cores busy"
    stopped = " The run was interrupted." if document["interrupted"] else ""
    return (
        f"Medians of {min(rounds)} to {max(rounds)} rounds in turns; in brackets how many times longer than ours, the "
        f"median of the ratios within rounds. {where}; {versions}. Load {load['begin']:g} at the begin and "
        f"{load['end']:g} at the end{others}; commit {document['commit']}, {document['date']}.{stopped}"
    )


def _network(case: dict[str, Any]) -> str:
    return f"`{case['case']['network']}`"


def inference_tables(documents: Sequence[Document]) -> str:
    """All cases of all machines, and what was not measured."""
    parts = []
    for document in documents:
        names = [name for name in ORDER if any(name in case["contenders"] for case in document["cases"])]
        every = [name for case in document["cases"] for name in case["contenders"] if "/" not in name]
        names += [name for name in dict.fromkeys(every) if name not in names]
        head = ["network", "size", "batch", "threads", "dtype", *(title(name) for name in names)]
        rows = [[_network(case), *_shape(case), *_cells(case, names)] for case in document["cases"]]
        errors = {
            name: max(case["contenders"][name]["error"] for case in document["cases"] if name in case["contenders"])
            for name in names
        }
        rows.append(["largest error", "", "", "", "", *(f"{errors[name]:.0e}" for name in names)])
        parts += [_title(document), markdown(head, rows, text_columns=5), _others(document), _missing(document)]
        parts.append(provenance(document))
    return "\n\n".join(part for part in parts if part) or NOTHING


def _shape(case: dict[str, Any]) -> list[object]:
    described = case["case"]
    size = f"{described['width']}x{described['height']}"
    return [size, described["batch"], described["threads"], described["dtype"]]


def _title(document: Document) -> str:
    machine = document["machine"]
    name = machine["gpus"][0] if document["device"] == "cuda" else f"{machine['cpu']}, {machine['cores']} cores"
    return f"#### {name}"


def _others(document: Document) -> str:
    """Other networks on the same images."""
    rows = [
        [title(name), *_shape(case), _cell(row)]
        for case in document["cases"]
        for name, row in case["contenders"].items()
        if "/" in name
    ]
    head = ["another network", "size", "batch", "threads", "dtype", "ms (times ours of Lite-HRNet-18)"]
    return markdown(head, rows, text_columns=5) if rows else ""


def _missing(document: Document) -> str:
    reasons = {f"{title(name)}: {reason}" for case in document["cases"] for name, reason in case["missing"].items()}
    return "\n".join(["Not measured:", "", *(f"- {reason}" for reason in sorted(reasons))]) if reasons else ""


def growth_tables(documents: Sequence[Document]) -> str:
    """Milliseconds for each image against batch and size."""
    parts = []
    for document in documents:
        names = [name for name in ORDER if any(name in case["contenders"] for case in document["cases"])]
        head = ["ms per image", "batch", *(title(name) for name in names)]
        rows = []
        for case in document["cases"]:
            size, batch, *_ = _shape(case)
            cells = [_cell(per_image(case, name), is_ours=name == "ours") for name in names]
            rows.append([size, batch, *cells])
        parts += [_title(document), markdown(head, rows, text_columns=1), provenance(document)]
    if not parts:
        return NOTHING
    return "\n\n".join(["![Milliseconds per image against batch and size](../docs/speed_growth.png)", *parts])


def per_image(case: dict[str, Any], name: str) -> dict[str, Any] | None:
    row = case["contenders"].get(name)
    return None if row is None else {**row, "median_ms": row["median_ms"] / case["case"]["batch"]}


def training_tables(documents: Sequence[Document]) -> str:
    """Times and memory of training steps."""
    parts = []
    for document in documents:
        rows = []
        for case in document["cases"]:
            for name, row in case["contenders"].items():
                memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:,.0f}"
                size, batch, threads, _ = _shape(case)
                step, by = f"{size}, batch {batch}, threads {threads}", f"{title(name)} (blocks: {row['details']})"
                times = milliseconds(row["median_ms"]), f"{row['ratio']:.2f}", f"{row['images_per_s']:.1f}"
                rows.append([_network(case), step, by, *times, memory])
        head = ["network", "step", "by", "ms", "times ours", "images/s", "peak memory, MB"]
        parts += [_title(document), markdown(head, rows, text_columns=3), provenance(document)]
    return "\n\n".join(parts) or NOTHING


# By README: sections between markers, the results that they are made of, and how.
SECTIONS: dict[Path, dict[str, tuple[str, Tables]]] = {
    ROOT / "README.md": {"speed": ("inference", headline)},
    ROOT / "benchmarks" / "README.md": {
        "inference": ("inference", inference_tables),
        "growth": ("growth", growth_tables),
        "training": ("training", training_tables),
    },
}
# By plot: the results that it shows.
PLOTS = {ROOT / "docs" / "speed.png": "inference", ROOT / "docs" / "speed_growth.png": "growth"}


def texts(folder: Path = FOLDER) -> dict[Path, str]:
    """The READMEs as they have to be."""
    found = {}
    for path, sections in SECTIONS.items():
        tables = {name: table(all_results(kind, folder)) for name, (kind, table) in sections.items()}
        found[path] = with_tables(path.read_text(encoding="utf-8"), tables)
    return found


def digest(document: Document) -> str:
    """Tells results apart; a plot carries that of what it shows."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write(folder: Path = FOLDER) -> list[Path]:
    """Writes READMEs and plots, and returns what was written; there is no plot where nothing was measured."""
    from benchmarks.networks import plots

    for path, text in texts(folder).items():
        path.write_text(text, encoding="utf-8")
    written = list(SECTIONS)
    draw = {"inference": plots.plot_times, "growth": plots.plot_growth}
    for path, kind in PLOTS.items():
        documents = all_results(kind, folder)
        if documents:
            draw[kind](documents[0], path, {"Source": digest(documents[0])})
            written.append(path)
    return written
