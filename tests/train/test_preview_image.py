"""The image of a `frames` row is found under both of its names."""

import pytest

from emotalking.train.callbacks.log import preview_image


@pytest.mark.parametrize("name", ["image", "picture"])
def test_both_names_are_read(name: str) -> None:
    assert preview_image({"kind": "frames", name: "frames/face_000100.jpg"}) == "frames/face_000100.jpg"
    assert preview_image({"kind": "frames"}) == ""
