"""What the tests of training share."""

from collections.abc import Iterator

import pytest

from emotalking.train.callbacks import report as recording


@pytest.fixture(autouse=True, scope="module")
def no_page(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs end without drawing their page, which takes longer than they do; its own tests draw it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_run_record.py":
            patch.setattr(recording, "write_page", lambda folder: None)
        yield
