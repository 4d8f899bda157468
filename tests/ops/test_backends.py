"""The registry of back ends: choice, obstacles, overrides, reports."""

import inspect
from importlib import import_module

import pytest
import torch

from emotalking.ops import adam, compose, mesh, motion, normals, rasterize, sh, similarity, splat, triplane
from emotalking.ops.backends import OPERATIONS, Backend, Operation, report, use_backends

MODULES = (adam, compose, mesh, motion, normals, rasterize, sh, similarity, splat, triplane)


@pytest.fixture
def operation(monkeypatch: pytest.MonkeyPatch) -> Operation:
    """Of two back ends, beside those of the package."""
    monkeypatch.setattr("emotalking.ops.backends.OPERATIONS", dict(OPERATIONS))
    small = Backend("small", "math:sqrt", device="cpu", float32_only=True, limits={"side": 10})
    return Operation("root", small, Backend("reference", "math:sqrt", gradients=("camera",)))


def test_every_operation_ends_with_a_reference_of_the_same_arguments() -> None:
    assert MODULES and len(OPERATIONS) >= 10
    for operation in OPERATIONS.values():
        *kernels, reference = operation.backends.values()
        assert reference.name == "reference" and reference.device is None and not reference.limits
        for backend in (*kernels, reference):
            module, function = backend.function.split(":")
            expected = list(inspect.signature(_function(reference)).parameters)
            found = list(inspect.signature(getattr(import_module(module), function)).parameters)
            assert len(found) == len(expected) or found == ["arguments"], (operation.name, backend.name)


def _function(backend: Backend) -> object:
    module, name = backend.function.split(":")
    return getattr(import_module(module), name)


def test_auto_takes_the_first_that_fits(operation: Operation) -> None:
    sample = torch.zeros(1)
    assert operation.choose("auto", sample, side=10).name == "small"
    assert operation.choose("auto", sample, side=11).name == "reference"
    assert operation.choose("auto", sample.double(), side=1).name == "reference"
    assert operation.choose("auto", sample, ["camera"], side=1).name == "reference"
    assert operation.choose("auto", sample, side=1)(4.0) == 2.0


def test_one_that_is_asked_for_must_fit(operation: Operation) -> None:
    sample = torch.zeros(1)
    for wanted, arguments, message in (
        ("metal", (sample,), "expected auto, small, reference, got 'metal'"),
        ("small", (sample.double(),), "needs float32"),
        ("small", (sample.to("meta"),), "needs cpu tensors, got meta"),
        ("small", (sample, ["camera"]), "gives no gradient to camera"),
    ):
        with pytest.raises(ValueError, match=message):
            operation.choose(wanted, *arguments, side=1)
    with pytest.raises(ValueError, match="takes no side 11, at most 10"):
        operation.choose("small", sample, side=11)


def test_new_ones_are_chosen_by_name_and_preferred_on_request(operation: Operation) -> None:
    operation.register(Backend("missing", "math:sqrt", available=lambda: False), preferred=True)
    assert operation.choose("auto", torch.zeros(1), side=1).name == "small"
    operation.register(Backend("named", "math:cbrt"))
    assert operation.choose("auto", torch.zeros(1), side=1).name == "small"
    assert operation.choose("named", torch.zeros(1), side=1)(8.0) == pytest.approx(2.0)
    operation.register(Backend("cube", "math:cbrt"), preferred=True)
    assert operation.choose("auto", torch.zeros(1), side=1)(8.0) == pytest.approx(2.0)


def test_the_reference_stays_the_last(operation: Operation) -> None:
    operation.register(Backend("never", "math:cbrt", available=lambda: False))
    assert operation.choose("auto", torch.zeros(1), side=11).name == "reference"
    assert operation.choose("never", torch.zeros(1), side=11).name == "never"
    operation.register(Backend("named", "math:cbrt"))
    operation.register(Backend("first", "math:cbrt", limits={"side": 5}), preferred=True)
    assert list(operation.backends) == ["first", "small", "never", "named", "reference"]
    assert operation.choose("auto", torch.zeros(1), side=11).name == "named"


def test_one_of_a_known_name_is_replaced(operation: Operation) -> None:
    operation.register(Backend("small", "math:cbrt"))
    assert list(operation.backends) == ["small", "reference"]
    operation.register(Backend("reference", "math:cbrt"), preferred=True)
    assert list(operation.backends) == ["small", "reference"]
    assert all(backend.function == "math:cbrt" for backend in operation.backends.values())


def test_what_auto_means_can_be_set_and_what_ran_is_reported() -> None:
    image = torch.rand(12, 12, 3)
    with use_backends(ssim="reference"):
        similarity.ssim(image, image)
        assert report()["ssim"] == "reference"
        with use_backends(ssim="cpu"):
            similarity.ssim(image, image)
        assert report()["ssim"] == "cpu"
    with use_backends(ssim="reference"):
        similarity.ssim(image, image, backend="cpu")  # what a call asks for stays
        assert report()["ssim"] == "cpu"
