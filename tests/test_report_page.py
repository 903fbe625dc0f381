"""The report in a browser: quiet, offline, light and dark, on a phone, without scripts; slider and readout work."""

import json
import shutil

import pytest
from run_folders import own_run
from test_report import HOSTILE, PLAIN, hostile_run

from stylegan2_pipeline.report.write import report

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium "
                                                         "chromium-driver"),
]
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of one run, of two, and of two hostile ones."""
    folder = tmp_path_factory.mktemp("runs")
    a, b = own_run(folder / "00000-a", batch=8), own_run(folder / "00001-b", swd=(90.0, 30.0, 8.0, 2.4))
    c, d = hostile_run(folder / "c<img src=x onerror=alert(3)>"), hostile_run(folder / "d")
    return {"single": report(a, wanted=PLAIN)[0], "compare": report(a, b, wanted=PLAIN)[0],
            "hostile": report(c, wanted=PLAIN)[0], "hostile pair": report(c, d, wanted=PLAIN)[0]}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")  # an alert of a hostile page makes the next call fail
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser):
    """Opens a page and gives the browser; at the end: nothing was complained of, and nothing else loaded."""
    visited = set()

    def visit(path, scheme="light", width=1280, media="screen", scripts=True):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        browser.get(path.as_uri())
        visited.add(path.as_uri())
        return browser

    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    yield visit
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [message["params"]["request"]["url"] for message in messages
                 if message["method"] == "Network.requestWillBeSent"]
    assert {url for url in requested if not url.startswith("data:")} == visited


def luminance(colour):
    """Relative luminance of "rgb(r, g, b)" (WCAG 2)."""
    channels = [int(part) / 255 for part in colour.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def style(browser, selector, name):
    return browser.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)


@pytest.mark.parametrize("name", ["single", "compare", "hostile", "hostile pair"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_quiet_load_nothing_and_can_be_read(pages, visit, name, scheme):
    browser = visit(pages[name], scheme)
    paper = style(browser, "body", "backgroundColor")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    for selector in ("body", ".note", "nav a"):
        assert contrast(style(browser, selector, "color"), paper) >= 4.5, selector
    card = style(browser, ".chart", "backgroundColor")
    assert contrast(style(browser, ".chart svg text", "fill"), card) >= 4.5
    for slot in ("s0", "s1"):
        assert contrast(style(browser, f".chart .line.{slot}", "stroke"), card) >= 3, slot
    broken = browser.execute_script("return [...document.images].filter((i) => !i.complete || !i.naturalWidth).length")
    assert broken == 0 and browser.execute_script("return document.images.length") > 5


def test_hostile_text_is_text(pages, visit):
    browser = visit(pages["hostile"])
    assert browser.execute_script("return document.querySelectorAll('script:not([type])').length") == 1
    assert HOSTILE in browser.execute_script("return document.body.textContent")
    assert "onerror=alert(3)" in browser.title


@pytest.mark.parametrize("name", ["single", "compare", "hostile"])
def test_a_phone_scrolls_down_only(pages, visit, name):
    browser = visit(pages[name], width=360)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    size = browser.execute_script("const svg = document.querySelector('.chart svg'); return 15 * "
                                  "svg.getBoundingClientRect().width / svg.viewBox.baseVal.width")
    assert size >= 9.5, "pixels of the text in charts"


def shown(browser):
    return browser.execute_script("return [...document.querySelectorAll('.slides figure')]"
                                  ".filter((f) => f.offsetParent !== null).map((f) => f.dataset.when)")


def test_the_slider_goes_through_time(pages, visit):
    browser = visit(pages["single"])
    assert shown(browser) == ["16 kimg"]
    slider = browser.find_element("css selector", ".slides input")
    for when in ("12 kimg", "8 kimg"):
        slider.send_keys(webdriver.Keys.ARROW_LEFT)
        assert shown(browser) == [when] == [browser.find_element("css selector", ".slides output").text]
    slider.send_keys(webdriver.Keys.HOME)
    assert shown(browser) == ["0 kimg"]
    button = browser.find_element("css selector", ".slides button")
    button.click()
    WebDriverWait(browser, 20).until(lambda _: shown(browser) == ["16 kimg"] and button.text == "Play")


def test_the_readout_follows_mouse_and_keys(pages, visit):
    browser = visit(pages["single"])
    chart = browser.find_element("css selector", ".chart")
    svg, readout = chart.find_element("css selector", ":scope > svg"), chart.find_element("css selector", ".readout")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    actions = webdriver.ActionChains(browser)
    actions.move_to_element(svg).perform()  # the middle of 0 to 16 kimg, nearly
    assert readout.text == "8 kimg generator 1.2 discriminator 1"
    actions.move_to_element_with_offset(svg, svg.size["width"] // 2 - 4, 0).perform()
    assert readout.text == "16 kimg generator 1.4 discriminator 1"
    marker = chart.find_element("css selector", ".here")
    assert marker.get_attribute("visibility") == "visible"
    ends = browser.execute_script("const p = arguments[0].querySelector('polyline').points; return p[p.length - 1].x",
                                  svg)
    assert float(marker.get_attribute("cx")) == pytest.approx(ends, abs=0.1)
    actions.move_to_element(browser.find_element("css selector", "h2")).perform()
    assert not readout.text.strip() and marker.get_attribute("visibility") == "hidden"
    svg.send_keys(webdriver.Keys.HOME)
    assert readout.text.startswith("0 kimg generator 1 ")
    svg.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert readout.text.startswith("4 kimg generator 1.1 ")


def test_charts_of_two_runs_tell_both(pages, visit):
    browser = visit(pages["compare"])
    chart = browser.find_element("css selector", "#quality .chart")
    chart.find_element("css selector", ":scope > svg").send_keys(webdriver.Keys.END)
    assert chart.find_element("css selector", ".readout").text == "16 kimg A 2.5 B 1.2"


def test_without_scripts_everything_is_there(pages, visit):
    browser = visit(pages["single"], scripts=False)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(browser) == ["0 kimg", "4 kimg", "8 kimg", "12 kimg", "16 kimg"]
    assert style(browser, ".slides .control", "display") == "none"


def test_it_prints(pages, visit):
    browser = visit(pages["single"], scheme="dark", media="print")
    assert style(browser, "nav", "display") == "none" and style(browser, "body", "color") == "rgb(0, 0, 0)"
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]) > 50_000
