"""The memory traffic of small access patterns, known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import emulation
import numpy as np
import pytest

SOURCE = Path(__file__).with_name("language.cu")


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load([SOURCE], mode="checked", includes=[emulation.ROOT / "csrc"])


@pytest.fixture
def library(loaded: emulation.Library) -> emulation.Library:
    loaded.reset()
    loaded.configure(statistics=True)
    return loaded


def launch_of(library: emulation.Library) -> dict[str, Any]:
    assert library.errors() == []
    (launch,) = library.launches()
    return launch


# 32 lanes read 4 bytes each, `stride` floats apart: sectors of 32 bytes hold 8 floats.
@pytest.mark.parametrize(("stride", "sectors"), [(0, 1), (1, 4), (2, 8), (3, 12), (8, 32), (100, 32)])
def test_sectors_of_a_strided_read(library: emulation.Library, stride: int, sectors: int) -> None:
    x, y = library.copy(np.zeros(31 * stride + 1, np.float32), "x"), library.empty(32, np.float32, "y")
    assert library.call("strided", x, y, stride) == 0
    assert launch_of(library)["traffic"] == {
        "global_read": {"bytes": 128, "requests": 1, "sectors": sectors, "distinct_sectors": sectors},
        "global_write": {"bytes": 128, "requests": 1, "sectors": 4, "distinct_sectors": 4},
    }


def test_vector_access_is_one_request(library: emulation.Library) -> None:
    x, y = library.copy(np.zeros(128, np.float32), "x"), library.empty(128, np.float32, "y")
    assert library.call("vectors", x, y) == 0
    counts = {"bytes": 512, "requests": 1, "sectors": 16, "distinct_sectors": 16}
    assert launch_of(library)["traffic"] == {"global_read": counts, "global_write": counts}


# 32 banks of 4 bytes: a stride of 2^k words lets 2^k lanes share a bank, an odd stride none.
@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 1), (2, 2), (4, 4), (32, 32), (33, 1)])
def test_bank_conflicts(library: emulation.Library, stride: int, wavefronts: int) -> None:
    assert library.call("banks", library.empty(32, np.float32, "y"), stride) == 0
    counts = {"bytes": 128, "requests": 1, "wavefronts": wavefronts, "bank_conflicts": wavefronts - 1}
    traffic = launch_of(library)["traffic"]
    assert traffic["shared_read"] == counts
    assert traffic["shared_write"] == counts


def test_traffic_by_line(library: emulation.Library) -> None:
    assert library.call("banks", library.empty(32, np.float32, "y"), 2) == 0
    lines = launch_of(library)["lines"]
    text = SOURCE.read_text(encoding="utf-8").splitlines()
    assert {line["file"] for line in lines} == {str(SOURCE)}
    found = {(line["memory"], line["access"]): text[line["line"] - 1].strip() for line in lines}
    assert found == {
        ("shared", "write"): "tile[threadIdx.x * stride] = 1;",
        ("shared", "read"): "y[threadIdx.x] = tile[(31 - threadIdx.x) * stride];",
        ("global", "write"): "y[threadIdx.x] = tile[(31 - threadIdx.x) * stride];",
    }


def test_nothing_is_counted_unless_asked_for(library: emulation.Library) -> None:
    library.configure(statistics=False)
    assert library.call("banks", library.empty(32, np.float32, "y"), 2) == 0
    assert "traffic" not in launch_of(library)


def test_atomics_count_on_their_own(library: emulation.Library) -> None:
    order = library.empty(64, np.int32, "order")
    assert library.call("thread_order", library.copy(np.zeros(1, np.uint32), "next"), order, 2, 32) == 0
    traffic = launch_of(library)["traffic"]
    assert traffic["global_atomic"] == {"bytes": 256, "requests": 2, "sectors": 2, "distinct_sectors": 1}
