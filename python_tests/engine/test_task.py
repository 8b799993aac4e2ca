"""What a run asks of a task is the same for all tasks."""

from __future__ import annotations

from typing import Any

import pytest

from litehrnet_cuda.engine.pose_task import PoseTask
from litehrnet_cuda.engine.segmentation_task import SegmentationTask
from litehrnet_cuda.engine.task import Task


@pytest.mark.parametrize("task", [PoseTask, SegmentationTask])
def test_tasks_are_whole(task: type[Task[Any, Any]]) -> None:
    assert not task.__abstractmethods__


def test_a_task_has_to_say_everything() -> None:
    class Half(Task[Any, Any]):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
