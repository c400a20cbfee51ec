"""A headless Chromium, where this machine has one."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
)


class Browser:
    """A page in Chromium, and a few questions to it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, fragment: str = "") -> None:
        self.driver.get("about:blank")  # or another fragment alone would not load anew
        self.driver.get(page.resolve().as_uri() + fragment)

    def js(self, script: str, *arguments: Any) -> Any:
        """The value of an expression; `arguments[0]`, ... are what follows it."""
        return self.driver.execute_script(f"return {script.strip()}", *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.js(
            "[...document.querySelectorAll(arguments[0])]"
            ".map(one => one.textContent.toWellFormed())",
            selector,
        )

    def choose(self, selector: str, value: str) -> None:
        """Sets a field as a person would."""
        self.js(
            "(([field, value]) => { field.value = value;"
            " for (const kind of ['input', 'change'])"
            " field.dispatchEvent(new Event(kind, {bubbles: true})); })(arguments)",
            self.one(selector),
            value,
        )

    def press(self, key: str, selector: str | None = None) -> None:
        target = self.one(selector) if selector else self.driver.switch_to.active_element
        target.send_keys(key)

    def wait(self, expression: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 60, 0.05).until(lambda _: self.js(expression))

    def complaints(self) -> list[str]:
        """What the console was told since the last time, warnings and worse."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def resize(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Chromium with an empty profile; skips the test where there is none."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if not (binary and service):
        pytest.skip("no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
