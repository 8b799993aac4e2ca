"""A module of Lite-HRNet: blocks on parallel branches, then the fuse step between them.

Source: ``LiteHRModule`` in ``models/backbones/litehrnet.py`` of the official repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting, ShuffleUnit
from litehrnet_cuda.nn.layers import separable_layers
from litehrnet_cuda.nn.separable import fuses_layers, run_fused_layers
from litehrnet_cuda.nn.statistics import repeated_statistics

ModuleType = Literal["LITE", "NAIVE"]


class LiteHRModule(nn.Module):
    """``num_blocks`` blocks on every branch, then a sum over all branches at every resolution.

    With o_j the outputs of the blocks and f_ij the path from branch j to branch i, the fuse step is::

        s_0 = 2 o_0 + sum_{j>=1} f_0j(o_j)
        s_i = 2 f_i0(s_0) + o_i + sum_{j>=1, j!=i} f_ij(o_j)    i >= 1        y_i = relu(s_i)

    This is what the official code computes (it adds branch 0 in place, and twice), and what all published
    checkpoints were trained with; the textbook sum ruins them. f_i0 is evaluated once here; in training mode its
    batch norms are updated as if twice, as the official code does.

    Args:
        num_branches: number of branches, 1 to 4 in the published networks.
        num_blocks: blocks per branch.
        in_channels: channels of each branch.
        reduce_ratio: reduction inside cross-resolution weighting.
        module_type: ``"LITE"`` for conditional channel weighting, ``"NAIVE"`` for shuffle units.
        multiscale_output: return all branches, or the first only.
        with_fuse: without it the outputs of the blocks are returned.
        with_cp: gradient checkpointing of the blocks.

    Shape:
        a list of ``[N, in_channels[i], H_i, W_i]`` to a list of the same shapes. Sizes halve (rounded up)
        from branch to branch.
    """

    def __init__(
        self,
        num_branches: int,
        num_blocks: int,
        in_channels: Sequence[int],
        reduce_ratio: int = 8,
        module_type: ModuleType = "LITE",
        multiscale_output: bool = True,
        with_fuse: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if len(in_channels) != num_branches:
            raise ValueError(
                f"LiteHRModule: expected in_channels of length num_branches={num_branches}, got {in_channels}"
            )
        if module_type not in ("LITE", "NAIVE"):
            raise ValueError(f"LiteHRModule: expected module_type 'LITE' or 'NAIVE', got {module_type!r}")
        self.num_branches = num_branches
        self.in_channels = list(in_channels)
        self.module_type = module_type
        self.multiscale_output = multiscale_output
        self.with_fuse = with_fuse and num_branches > 1
        self.layers: nn.Sequential | nn.ModuleList
        if module_type == "LITE":
            self.layers = nn.Sequential(
                *(
                    ConditionalChannelWeighting(in_channels, reduce_ratio=reduce_ratio, with_cp=with_cp)
                    for _ in range(num_blocks)
                )
            )
        else:
            self.layers = nn.ModuleList(
                nn.Sequential(*(ShuffleUnit(c, c, with_cp=with_cp) for _ in range(num_blocks))) for c in in_channels
            )
        if self.with_fuse:
            # Entry [i][j] is f_ij; a ModuleList takes the None at i = j, although its annotation does not say so.
            self.fuse_layers = nn.ModuleList(
                nn.ModuleList(self._fuse_path(i, j) for j in range(num_branches))  # type: ignore[misc]
                for i in range(num_branches if multiscale_output else 1)
            )
            self.relu = nn.ReLU()

    def _fuse_path(self, i: int, j: int) -> nn.Sequential | None:
        """f_ij: from branch j to the channels of branch i, and down to its size; `fuse` takes care of going up."""
        channels_in, channels_out = self.in_channels[j], self.in_channels[i]
        if i == j:
            return None
        if j > i:
            return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))
        steps = [nn.Sequential(*separable_layers(channels_in, channels_in, 2)) for _ in range(i - j - 1)]
        return nn.Sequential(*steps, nn.Sequential(*separable_layers(channels_in, channels_out, 2, relu=False)))

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        """The fuse step, from the blocks' outputs o to s before the ReLU."""
        sums: list[Tensor] = []
        for i, paths in enumerate(self.fuse_layers):
            assert isinstance(paths, nn.ModuleList)
            if i == 0:
                total = 2 * x[0]
            else:
                with repeated_statistics(paths[0], 2):
                    total = 2 * paths[0](sums[0])
                total = total + x[i]
            for j in range(1, self.num_branches):
                if j < i:
                    total = total + paths[j](x[j])
                elif j > i:
                    # To the partner's size, not by a factor, so that sizes that do not divide evenly work too.
                    total = total + F.interpolate(paths[j](x[j]), size=x[i].shape[-2:])
            sums.append(total)
        return sums

    def _is_plain(self) -> bool:
        """Whether this is the fuse step and the ReLU behind it that :meth:`_fuse_with_ops` replaces."""
        return type(self).fuse is LiteHRModule.fuse and type(self.relu) is nn.ReLU

    def _fuse_with_ops(self, x: list[Tensor]) -> list[Tensor]:
        """The fuse step and the ReLU behind it: convolutions with their batch norms, sums with the ReLU."""
        from litehrnet_cuda.functional import weighted_sum

        first, outputs = x[0], []
        for i, paths in enumerate(self.fuse_layers):
            assert isinstance(paths, nn.ModuleList)
            terms = [x[i]] + [run_fused_layers([paths[j]], x[j]) for j in range(1, self.num_branches) if j != i]
            counts = [1] * len(terms)
            if i == 0:
                counts[0] = 2
                *sums, y = weighted_sum(terms, counts, sum=len(self.fuse_layers) > 1, relu=True)
                first = sums[0] if sums else first
            else:
                with repeated_statistics(paths[0], 2):
                    terms.append(run_fused_layers([paths[0]], first))
                (y,) = weighted_sum(terms, [*counts, 2], sum=False, relu=True)
            outputs.append(y)
        return outputs

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        if self.module_type == "LITE":
            x = self.layers(x)
        else:
            x = [layer(s) for layer, s in zip(self.layers, x, strict=True)]
        if self.with_fuse and self._is_plain() and fuses_layers([self.fuse_layers, self.relu], x):
            x = self._fuse_with_ops(x)
        elif self.with_fuse:
            x = [self.relu(s) for s in self.fuse(x)]
        return x if self.multiscale_output else x[:1]

    def extra_repr(self) -> str:
        return f"num_branches={self.num_branches}, module_type={self.module_type!r}, with_fuse={self.with_fuse}"
