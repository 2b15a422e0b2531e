"""The page in a real browser, beside a training, with a model to try."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"
)
SECONDS = 180


@pytest.fixture(scope="module")
def training(tmp_path_factory, toy_preset, toy_run, session_cache):
    """A folder with a finished run, in which a process trains another."""
    folder = tmp_path_factory.mktemp("watched")
    write_csv(folder / "train.csv", toy_rows(240))
    write_csv(folder / "test.csv", toy_rows(60, seed=1))
    shutil.copytree(toy_run, folder / "runs" / "finished")
    settings = [*toy_settings(folder, toy_preset), "training.epochs=400", "training.xla=false"]
    command = [sys.executable, "-m", "kerasllm", "finetune", "--recipe", "bert_cls"]
    command += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "KERASLLM_CACHE": str(session_cache)}
    process = subprocess.Popen(
        [*command, "--output", str(folder / "runs" / "training")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield folder / "runs"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def address(training):
    """Where `kerasllm watch` shows it, with the token."""
    command = [sys.executable, "-m", "kerasllm", "watch", str(training), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--prefix", "/behind/a/proxy"], stdout=subprocess.PIPE, text=True
    )
    yield re.fullmatch(r"Open (\S+)\n", process.stdout.readline())[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


def until(seen):
    """Waits for something that the page shows."""
    deadline = time.monotonic() + SECONDS
    while not (found := seen()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def test_a_curve_grows_a_text_gets_a_label_and_nothing_is_logged(training, address, browser):
    log = training / "training" / "metrics.jsonl"
    until(log.exists)
    browser.get(address)
    assert "token=" not in browser.current_url
    until(lambda: "training" in _text(browser))
    until(lambda: browser.find_elements("link text", "training"))
    browser.execute_script("document.querySelector('a[href$=\"/run/training\"]').click()")
    until(lambda: browser.find_elements("css selector", "#live svg.chart polyline.line"))

    def step() -> int:
        found = re.search(r", step ([\d,]+)", _text(browser))
        return int(found[1].replace(",", "")) if found else 0

    first, drawn = until(step), _first_curve(browser)
    until(lambda: step() > first)
    assert _first_curve(browser) != drawn
    # The page is not part of the training: it goes on without one.
    rows = len(log.read_text().splitlines())
    browser.get("about:blank")
    until(lambda: len(log.read_text().splitlines()) > rows)

    browser.get(re.sub(r"/\?token=.*", "/run/finished", address))
    browser.find_element("id", "open").click()
    field = until(lambda: browser.find_elements("tag name", "textarea"))[0]
    field.send_keys("a good film and a great story <b>!</b>")
    browser.find_element("css selector", "#form button").click()
    tried = until(lambda: browser.find_element("id", "tried").text)
    assert "positive" in tried
    assert until(lambda: browser.find_elements("css selector", "#tried .words span"))
    assert not browser.find_elements("css selector", "#tried b b")
    words = browser.find_elements("css selector", "#tried .words .for")
    assert {"good", "great"} & {word.text for word in words}
    browser.find_element("partial link text", "report").click()
    assert "Where it fails" in _text(browser)
    problems = [one for one in browser.get_log("browser") if one["level"] != "INFO"]
    assert problems == []


def _text(browser) -> str:
    return browser.find_element("tag name", "body").text


def _first_curve(browser) -> str:
    # In one step: the page puts new curves in place of those that were found.
    script = "return document.querySelector('#live svg polyline.line').getAttribute('points')"
    return browser.execute_script(script)
