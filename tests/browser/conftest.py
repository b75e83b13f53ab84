"""A headless Chromium, that of the system."""

import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """Start the browser once; a page is made by ``chromium.new_page()``."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no Chromium; install the distribution's package")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
