"""The shape annotations are checked while tests run; this proves that the check bites."""

import pytest
import torch

from emotalking.losses.l1_dssim import l1


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(Exception, match="(?i)type-check|shape"):
        l1(torch.zeros(4, 4, 3), torch.zeros(5, 4, 3))


def test_right_shape_passes() -> None:
    assert float(l1(torch.zeros(4, 4, 3), torch.ones(4, 4, 3))) == 1.0
