"""A headless Chromium for tests of the pages that the package writes."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")


class Page:
    """An open page.

    Attributes:
        driver: selenium's driver, for what the methods do not offer (``find_element``, keys).
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of so many CSS pixels; its messages start anew."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get_log("browser")
        self.driver.get(path.resolve().as_uri())

    def js(self, script: str, *arguments: Any) -> Any:
        """Return what a function body of JavaScript returns; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """Return the warnings and errors in the console since the page was opened or last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        options = {"captureBeyondViewport": whole}
        if whole:
            root = "document.documentElement"
            size = self.js(f"return [{root}.scrollWidth, {root}.scrollHeight]")
            options["clip"] = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Print on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
        printed = self.driver.execute_cdp_cmd(
            "Page.printToPDF", paper | {"preferCSSPageSize": True}
        )
        path.write_bytes(base64.b64decode(printed["data"]))


@contextmanager
def chromium() -> Iterator[Page]:
    """Start Chromium; the test is skipped where it or its driver is not installed."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING"})
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses its sandbox to root
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield Page(driver)
    finally:
        driver.quit()
