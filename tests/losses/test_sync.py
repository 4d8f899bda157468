"""The sync distance by hand."""

import torch

from emotalking.losses.sync import sync_distance


def test_squared_distance_is_summed_over_the_embedding_and_averaged_over_windows() -> None:
    lips = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    audio = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    distance = sync_distance(lips, audio)
    assert float(distance) == (4.0 + 9.0 + 9.0) / 2
    distance.backward()
    assert torch.equal(lips.grad, lips.detach() - audio)  # 2 (lips - audio) over two windows


def test_equal_embeddings_have_no_distance_and_no_gradient() -> None:
    lips = torch.randn(3, 7, requires_grad=True)
    distance = sync_distance(lips, lips.detach())
    distance.backward()
    assert float(distance) == 0.0 and not lips.grad.any()
