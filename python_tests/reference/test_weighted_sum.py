from __future__ import annotations

import torch

from litehrnet_cuda.reference.weighted_sum import weighted_sum


def test_counts_and_upsamples() -> None:
    high, low = torch.tensor([[[[1.0, -2.0, 3.0, -4.0]]]]), torch.tensor([[[[10.0, -1.0]]]])
    total, positive = weighted_sum([high, low, high], [2, 1, 1], relu=True)
    assert total.flatten().tolist() == [13.0, 4.0, 8.0, -13.0]
    assert positive.flatten().tolist() == [13.0, 4.0, 8.0, 0.0]
    assert [len(weighted_sum([high], [1], sum, relu)) for sum, relu in ((True, False), (False, True))] == [1, 1]
