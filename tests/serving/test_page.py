"""The page at / in a headless Chromium that is controlled through pipes: keys are typed, and the text is read."""

import json
import os
import shutil
import subprocess
import time

import pytest
from scripted_checkpoint import COMPLETION

from neox_code.serving.page import PAGE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab. `evaluate` returns the value of an expression of JavaScript, `press` a key."""

    def __init__(self, profile, url):
        (commands, self.sink), (self.source, answers) = os.pipe(), os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        script = f'exec "$0" "$@" 3</proc/self/fd/{commands} 4>/proc/self/fd/{answers}'
        self.process = subprocess.Popen(
            ["sh", "-c", script, BROWSER, *options, "about:blank"], pass_fds=(commands, answers), stderr=subprocess.DEVNULL
        )
        os.close(commands), os.close(answers)
        self.number, self.session, self.pending, self.events = 0, {}, b"", []
        target = next(each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self.session = {"sessionId": self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]}
        self.send("Log.enable"), self.send("Page.enable")
        self.send("Page.navigate", url=url)

    def send(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.sink, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            self.events.append(answer)
        assert "result" in answer, answer
        return answer["result"]

    def read(self):
        while b"\0" not in self.pending:
            part = os.read(self.source, 65536)
            assert part, "the browser ended"
            self.pending += part
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code, number, text=None, modifiers=0):
        names = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown", **names, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **names)

    def wait_for(self, expression):
        end = time.monotonic() + 60
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, expression
            time.sleep(0.02)
        return value

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.sink), os.close(self.source)


@pytest.fixture(scope="module")
def browser(client, tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    browser = Browser(tmp_path_factory.mktemp("profile"), client.url)
    browser.wait_for("document.readyState === 'complete' && typeof draw === 'function'")
    yield browser
    browser.close()


def set_text(browser, before, after=""):
    browser.evaluate(
        f"dismiss(); text.value = {json.dumps(before + after)}; text.setSelectionRange({len(before)}, {len(before)}); draw()"
    )


def test_a_streamed_completion_is_accepted_dismissed_and_inserted_as_text(browser):
    ghost, value = "document.querySelector('.ghost')?.textContent", "text.value"
    browser.evaluate("element('automatic').checked = false; element('stop').value = 'end'")
    set_text(browser, "<b>f(", "\n<img src=x onerror=alert(1)>")
    browser.press(" ", "Space", 32, modifiers=2)
    browser.wait_for("!running && ghost")
    expected = COMPLETION[: COMPLETION.index("\n")].replace("\r", "")
    found = browser.evaluate("ghost").replace("\r", "")
    assert found.startswith(expected) and COMPLETION.replace("\r", "").startswith(found)
    assert browser.evaluate(value).startswith("<b>f(\n"), "the completion is not part of the text yet"
    assert browser.evaluate(ghost).replace("\r", "") == found
    browser.press("Escape", "Escape", 27)
    assert browser.evaluate("ghost") == "" and browser.evaluate(value).startswith("<b>f(\n")
    browser.press(" ", "Space", 32, modifiers=2)
    browser.wait_for("!running && ghost")
    browser.press("Tab", "Tab", 9)
    assert browser.evaluate(value) == f"<b>f({found}\n<img src=x onerror=alert(1)>"
    assert browser.evaluate("document.querySelectorAll('#mirror b, #mirror img').length") == 0
    browser.evaluate("document.execCommand('undo')")
    assert browser.evaluate(value).startswith("<b>f(\n"), "undo removes a completion"
    browser.press("Tab", "Tab", 9)
    assert browser.evaluate(value).startswith("<b>f(\t\n"), "without a completion Tab is a tab"


def test_typing_requests_a_completion_and_settings_and_errors_are_shown(browser):
    browser.evaluate("element('maximum').value = 3; element('blanks').checked = true; element('automatic').checked = true")
    set_text(browser, "a b")
    browser.press("x", "KeyX", 88, "x")
    browser.wait_for("!running && ghost === '...'")
    assert browser.evaluate("text.value") == "a bx"
    assert browser.evaluate("document.querySelectorAll('#mirror .space').length") == 1
    browser.evaluate("element('temperature').value = -5; complete()")
    assert "temperature" in browser.wait_for("statusLine.className === 'error' && statusLine.textContent")
    assert [event for event in browser.events if "Security Policy" in str(event)] == []


def test_the_page_is_one_file_with_a_strict_policy(client):
    with client.open("/") as response:
        policy, html = response.headers["Content-Security-Policy"], response.read().decode()
    assert html == PAGE.read_text(encoding="utf-8") and "http" not in html.replace("https-", "")
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert "innerHTML" not in html and "style=" not in html
