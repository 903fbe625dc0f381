"""The page of an inspection in a browser: quiet, offline, light and dark, on a phone."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from test_inspection import collection, picture
from test_report_page import CHROMIUM, DRIVER, FLAGS, contrast, luminance, style, webdriver
from test_report_page import pytestmark as needs_chromium

from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.inspection.inspect import inspect

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a set with troubles of each kind, and names that try to be more than text."""
    tmp_path = tmp_path_factory.mktemp("inspected")
    source = collection(tmp_path / "set", {f"{'ab'[i % 2]}/{i:02d}.png": picture(i, (90, 60)) for i in range(90)})
    collection(source, {"a/<script>alert(1)<!--.png": picture(5, (90, 60)), "b/deep.png": Image.fromarray(
        np.arange(6000, dtype=np.uint16).reshape(60, 100)), "b/" + "long" * 50 + ".png": picture(200, (400, 30))})
    shutil.copy(source / "a/02.png", source / "b/copy.png")
    (source / "a/broken.jpg").write_bytes(b"<html>")
    path = tmp_path / "report.html"
    inspect(Conversion(source, tmp_path / "out.zip", workers=1, report=(path,)), lambda line: None)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 1280), ("light", 360)])
def test_the_page_is_quiet_and_can_be_read(browser, page, scheme, width):
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.get(page.as_uri())
    run = browser.execute_script
    assert run("return document.documentElement.scrollWidth") <= width
    assert run("return [...document.images].filter((i) => !i.complete || !i.naturalWidth).length") == 0
    assert run("return document.querySelectorAll('#contact figure').length") == 60
    cells = run("return [...document.querySelectorAll('.cells img')].map((i) => [i.offsetWidth, i.offsetHeight])")
    assert all(width == height for width, height in cells)  # squares, in which pictures keep their proportions
    paper = style(browser, "body", "backgroundColor")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    for selector in ("body", "figcaption", "table.options td"):
        assert contrast(style(browser, selector, "color"), paper) >= 4.5
    assert run("return document.querySelectorAll('script:not([type])').length") == 1
    assert "<script>alert(1)<!--.png" in run("return document.body.textContent")
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {message["params"]["request"]["url"] for message in messages
                 if message["method"] == "Network.requestWillBeSent"}
    assert {url for url in requested if not url.startswith("data:")} == {page.as_uri()}
