"""Debian's or another Chromium, for tests of what runs in a browser."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
PATIENCE_S = 60.0
"""For a busy machine; nothing takes so long."""


@contextmanager
def launched(*arguments: str) -> Iterator[Any]:
    """A browser that plays sound without a click."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *arguments],
        )
        yield browser
        browser.close()


def wait(page: Any, expression: str, state: str = "null") -> None:
    """Wait until an expression is true; not by wait_for_function, whose eval the page's policy forbids.

    Args:
        state: expression that is shown if it never is.
    """
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(f"() => Boolean({expression})"):
        assert time.monotonic() < end, f"waited in vain for {expression}: {page.evaluate(f'() => {state}')}"
        page.wait_for_timeout(20)
