"""What the tests of training share."""

import pytest


@pytest.fixture(autouse=True)
def no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end without drawing their page, which takes longer than they do; its own tests draw it."""
    if request.path.name != "test_run_record.py":
        monkeypatch.setattr("emotalking.train.record.write_page", lambda folder: None)
