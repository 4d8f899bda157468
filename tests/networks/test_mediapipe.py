"""MediaPipe's networks against what TFLite computes, ONNX Runtime against PyTorch, and the operations by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from emotalking.io.tensors import read_tensors
from emotalking.networks.mediapipe.graph import Graph, open_graph
from emotalking.networks.mediapipe.operations import OPERATIONS
from emotalking.networks.registry import BUNDLED

SEEN_BY_TFLITE = {
    "face_detection": (
        (128, 128, 3),
        {
            "regressors": [2.5555, 53.299, 0.55889, 2.4664, -21.719, -22.142],
            "classificators": [-5.218, -5.1797, -5.5543, -3.497, -4.4927, -3.7432],
        },
    ),
    "face_detection_far": (
        (192, 192, 3),
        {
            "Identity": [-4.6088, -13.463, -4.8597, -1.921, -2.4446, -1.2849],
            "Identity_1": [-8.369, -3.7728, -3.0888, -5.0822, -5.9773, -58.782],
        },
    ),
    "person": ((256, 256, 3), {"activation_10": [0.82854, 1.0, 1.0, 1.0, 1.0, 1.0]}),
    "palm_detection": (
        (192, 192, 3),
        {
            "Identity": [0.28971, 29.063, -0.70954, -23.884, -7.9453, -6.2129],
            "Identity_1": [-5.1839, -9.6781, -8.1897, -12.849, -11.718, -11.955],
        },
    ),
    "hand": (
        (224, 224, 3),
        {
            "Identity": [123.38, 120.45, 122.55, 128.62, 120.38, 137.95],
            "Identity_1": [0.00056046],
            "Identity_2": [0.85854],
            "Identity_3": [0.0069783, -0.0058393, -0.014868, -0.016257, -0.0057754, 0.0054325],
        },
    ),
    "blendshapes": (
        (146, 2),
        {"StatefulPartitionedCall:0": [1.8329e-05, 0.0037647, 0.02136, 0.14887, 0.0023049, 0.00051851]},
    ),
}
"""Size of the input :func:`pattern`, and every fifth part of each output of ai-edge-litert 2.3.0 to five digits."""


def pattern(shape: tuple[int, ...]) -> torch.Tensor:
    """A smooth coloured image, or points along a curve."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    wave = (np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4
    image = 100 * wave + np.array([0, 3]) * rows if len(shape) == 2 else np.stack([wave, wave**2, 1 - wave], -1)
    return torch.from_numpy(image[None].astype(np.float32))


@pytest.mark.parametrize("name", SEEN_BY_TFLITE)
def test_network_computes_what_tflite_does(name: str) -> None:
    shape, expected = SEEN_BY_TFLITE[name]
    found = open_graph(name)(pattern(shape))
    assert set(found) == set(expected)
    for output, values in expected.items():
        flat = found[output].flatten()
        seen = flat[:: max(len(flat) // 5, 1)][:6]
        torch.testing.assert_close(seen, torch.tensor(values), rtol=3e-4, atol=3e-6)


def opened(name: str, compiled: bool) -> Graph:
    about, weights = read_tensors(BUNDLED / f"mediapipe_{name}.safetensors")
    return Graph(json.loads(about["graph"]), weights, compiled=compiled)


@pytest.mark.parametrize("name", [*SEEN_BY_TFLITE, "face_mesh"])
def test_onnx_runtime_computes_what_pytorch_does(name: str) -> None:
    shape = SEEN_BY_TFLITE.get(name, ((192, 192, 3), {}))[0]
    other = (
        1.1 * pattern(shape)
        if name == "blendshapes"
        else torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    )
    batch = torch.cat([pattern(shape), other])
    found, expected = opened(name, True)(batch), opened(name, False)(batch)
    assert list(found) == list(expected)
    for output, values in expected.items():
        error = (found[output] - values).abs().max() / values.abs().max()
        assert error < 5e-5, (output, error)  # 2e-5 of the hand's depths, else 1e-5


def test_every_operation_is_the_same_in_both() -> None:
    """Each with settings that no network has."""
    rng = torch.Generator().manual_seed(0)
    weights = {"slope": torch.randn(1, 1, 6, generator=rng)}
    weights |= {"kernel": torch.randn(6, 1, 3, 5, generator=rng), "bias": torch.randn(6, generator=rng)}
    nodes: list[dict[str, Any]] = [
        {"op": "convolution", "size": [3, 5], "stride": [2, 1], "padding": [2, 1, 0, 3], "groups": 6},
        {"op": "prelu"},
        {"op": "pad", "padding": [0, 2, 1, 3]},
        {"op": "resize", "size": [7, 11]},
        {"op": "depth_to_space", "block": 2},
        {"op": "slice", "begin": [0, 2, 0, 1], "size": [1, 5, 20, 1], "shape": [1, 10, 10]},
        {"op": "mean", "axes": [-1], "keep": True},
        {"op": "add", "activation": "relu6"},
        {"op": "transpose", "axes": [0, 2, 1]},
    ]
    more = {0: ["kernel", "bias"], 1: ["slope"], 7: ["5"]}
    for place, node in enumerate(nodes):
        node |= {"inputs": [str(place - 1) if place else "x", *more.get(place, [])], "output": str(place)}
    graph = {"inputs": ["x"], "outputs": {"out": "8", "early": "1"}, "nodes": nodes}
    x = torch.randn(2, 9, 8, 6, generator=rng)
    one, other = (Graph(graph, weights, compiled=compiled)(x) for compiled in (True, False))
    for name, values in other.items():
        torch.testing.assert_close(one[name], values, rtol=1e-5, atol=1e-5)


def test_a_graph_may_be_shared_and_keeps_nothing() -> None:
    graph, one, other = open_graph("person"), pattern((256, 256, 3)), torch.zeros(1, 256, 256, 3)
    before = graph(one)["activation_10"]
    graph(other)
    torch.testing.assert_close(graph(one)["activation_10"], before, rtol=0, atol=0)


def test_padding_that_is_uneven_lies_where_tensorflow_puts_it() -> None:
    work = OPERATIONS["convolution"](size=[3, 3], stride=[2, 2], padding=[0, 1, 0, 1], groups=1)
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    found = work(x, torch.ones(1, 1, 3, 3), torch.zeros(1))
    assert found[0, ..., 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


def test_pointwise_and_general_convolution_agree() -> None:
    x, weight, bias = torch.randn(1, 5, 6, 4), torch.randn(3, 4, 1, 1), torch.randn(3)
    settings = {"stride": [1, 1], "padding": [0, 0, 0, 0], "groups": 1, "activation": "relu"}
    fast = OPERATIONS["convolution"](size=[1, 1], **settings)(x, weight, bias)
    wide = torch.nn.functional.pad(weight, (1, 1, 1, 1))
    settings["padding"] = [1, 1, 1, 1]
    torch.testing.assert_close(fast, OPERATIONS["convolution"](size=[3, 3], **settings)(x, wide, bias))


def test_depth_to_space_fills_blocks_row_by_row() -> None:
    x = torch.arange(8.0).reshape(1, 1, 2, 4)
    found = OPERATIONS["depth_to_space"](block=2)(x)
    assert found[0, ..., 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def region(points: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    work = OPERATIONS["region_matrix"](
        left_rotation_idx=0,
        right_rotation_idx=1,
        output_width=16,
        output_height=8,
        scale_x=scale,
        scale_y=scale,
        subset_idxs=[[0, 1], [2, 3]],
        target_rotation_radians=0.0,
    )
    return work(points[None])


def test_region_of_level_points_is_their_box() -> None:
    points = torch.tensor([[10.0, 20, 0], [42.0, 20, 0], [26.0, 16, 0], [26.0, 24, 0]])
    corners = torch.tensor([[[0.0, 0], [16, 8]]])
    at = OPERATIONS["transform_points"]()(corners, region(points))
    torch.testing.assert_close(at, torch.tensor([[[10.0, 16], [42, 24]]]))
    at = OPERATIONS["transform_points"]()(corners, region(points, 1.5))
    torch.testing.assert_close(at, torch.tensor([[[2.0, 14], [50, 26]]]))


def test_region_turns_with_its_points() -> None:
    points = torch.tensor([[10.0, 20, 0], [42.0, 20, 0], [26.0, 16, 0], [26.0, 24, 0]])
    turn = math.radians(30)
    spin = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    turned = torch.cat([points[:, :2] @ spin.T, points[:, 2:]], 1)
    corners = torch.tensor([[[0.0, 0], [16, 0], [5, 7]]])
    transform = OPERATIONS["transform_points"]()
    torch.testing.assert_close(transform(corners, region(turned)), transform(corners, region(points)) @ spin.T)


def test_sampled_region_of_a_ramp_is_the_ramp() -> None:
    columns = torch.arange(12.0).expand(10, 12)
    features = torch.stack([columns, torch.arange(10.0)[:, None].expand(10, 12)], -1)[None]
    matrix = torch.eye(4)
    matrix[0, 0] = matrix[1, 1] = 0.5
    matrix[:2, 3] = torch.tensor([3.0, 2.0])
    found = OPERATIONS["sample_region"](output_height=4, output_width=6)(features, matrix[None])
    at = torch.arange(6.0)
    torch.testing.assert_close(found[0, 0, :, 0], 3 + (at + 0.5) / 2 - 0.5)
    torch.testing.assert_close(found[0, :, 0, 1], 2 + (at[:4] + 0.5) / 2 - 0.5)
    matrix[0, 3] = -2.0  # the first columns lie beyond the features
    outside = OPERATIONS["sample_region"](output_height=4, output_width=6)(features, matrix[None])
    assert (outside[0, :, :4] == 0).all() and (outside[0, :, 5, 1] > 0).all()


def test_the_second_look_replaces_places_and_keeps_depths() -> None:
    mesh = torch.arange(15.0).reshape(1, 1, 1, 15)
    lips, eye, iris = torch.full((1, 2, 2), -1.0), torch.full((1, 2, 2), -2.0), torch.full((1, 1, 2), -3.0)
    found = OPERATIONS["refine"](groups=[[0, 1], [2, 4]], lids=2)(mesh, lips, eye, iris)
    expected = [[-1, -1, 2], [-1, -1, 5], [-2, -2, 8], [9, 10, 11], [-2, -2, 14], [-3, -3, 11]]
    assert found[0].tolist() == expected
    assert mesh.flatten().tolist() == list(range(15))
