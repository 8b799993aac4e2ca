"""The running statistics of all batch norms of a block, moved in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import register


def update_running_statistics(
    running_mean: Sequence[Tensor],
    running_var: Sequence[Tensor],
    num_batches_tracked: Sequence[Tensor],
    statistics: Tensor,
    momentum: float,
) -> None:
    """Moves running statistics towards those of a batch: ``running = (1 - momentum) running + momentum statistic``.

    Args:
        running_mean, running_var: of 1 to 6 batch norms, each ``[C_i]`` and contiguous; written to.
        num_batches_tracked: for each norm an int64 that grows by one; or an empty list.
        statistics: ``[3, sum of C_i]``: mean, biased and unbiased variance, as the ops with batch norms return them;
            running variances move towards
            the unbiased one.
        momentum: between 0 and 1, the same for all norms.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    _op(list(running_mean), list(running_var), list(num_batches_tracked), statistics, momentum)


def _fake(
    running_mean: list[Tensor],
    running_var: list[Tensor],
    num_batches_tracked: list[Tensor],
    statistics: Tensor,
    momentum: float,
) -> None:
    pass


# Without autocast: what is written to cannot be a copy in another dtype.
_op = register("update_running_statistics", _fake, autocast=False)
