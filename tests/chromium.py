"""Headless Chromium: a window in which a reader opens pages, clicks and types."""

import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-default-apps"),
    *("--force-color-profile=srgb", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
)
DOMAINS = ("Log", "Runtime", "Network")
TOLD = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.requestWillBeSent")
KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}


class Visit(NamedTuple):
    """The document after loading, what the console said, and the addresses off this machine's disk that the page asked for."""

    dom: str
    console: list[str]
    requested: list[str]


class Window:
    """One page in a running browser; `events` are those of the domains that were enabled."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.numbers = connection, count(1)
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol; raises RuntimeError with what the browser refuses."""
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.connection.recv(timeout=60))).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Scroll to the first element that matches, and press and release the mouse in its middle."""
        place = self.value(
            f"(async () => {{ const it = document.querySelector({json.dumps(selector)});"
            "for (let turn = 0; turn < 2; turn++) { it.scrollIntoView({block: 'center'});"  # what comes into view is laid out, and moves it
            "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))) }"
            "const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    @property
    def dom(self) -> str:
        """The document as it is now."""
        return self.value("document.documentElement.outerHTML")

    def go(self, address: str) -> None:
        """Open a page, another one than is shown, and wait until it has loaded."""
        self.call("Page.navigate", url=address)
        while self.value("document.readyState + location.href") != f"complete{address}":
            time.sleep(0.05)

    def arrive(self, page: str) -> None:
        """Wait until a page of that file name has loaded, after a click on a link to it."""
        for _ in range(600):
            with suppress(RuntimeError):  # between two pages there is nothing to ask
                if self.value("document.readyState + location.pathname.split('/').pop()") == f"complete{page}":
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Expected {page} to load, found {self.value('location.href')}.")

    def until_it_says(self, text: str) -> None:
        """Wait until the page shows a text."""
        for _ in range(600):
            with suppress(RuntimeError):
                if text in self.value("document.body.innerText"):
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Expected {text!r} on the page, found {self.value('document.body.innerText')!r}.")

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def press(self, key: str) -> None:
        """Press and release a key, in whatever has the focus."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=KEYS[key],
                text=text if kind == "keyDown" else "",
            )


def tour(window: Window, pages: Sequence[Path]) -> list[Visit]:
    """Open one page after the other in a window."""
    for domain in DOMAINS:
        window.call(f"{domain}.enable")
    visits = [_seen(window, page.as_uri()) for page in pages]
    for domain in DOMAINS:
        window.call(f"{domain}.disable")
    return visits


def _seen(window: Window, address: str) -> Visit:
    window.events.clear()
    window.go(address)
    window.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # what loads once the page is shown
    told = {name: [one["params"] for one in window.events if one.get("method") == name] for name in TOLD}
    console = [json.dumps(one) for name in TOLD[:3] for one in told[name]]
    requested = [one["request"]["url"] for one in told[TOLD[3]] if not one["request"]["url"].startswith(("file:", "data:"))]
    return Visit(window.dom, console, requested)


@contextmanager
def opened(page: Path | str, profile: Path) -> Iterator[Window]:
    """A page, by its file or its address on this machine, in a browser of its own, loaded; the browser ends with the block."""
    address = page if isinstance(page, str) else page.as_uri()
    near = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    command = [str(CHROMIUM), *FLAGS, near, f"--user-data-dir={profile}", "--remote-debugging-port=0", "--window-size=1280,900"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(profile), max_size=None, proxy=None) as connection:
            browser = Window(connection)
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            with connect(f"{_address(profile).partition('/devtools')[0]}/devtools/page/{target}", max_size=None, proxy=None) as to_page:
                window = Window(to_page)
                window.go(address)
                yield window
    finally:
        process.terminate()
        process.wait()


def _address(profile: Path) -> str:
    """Where the browser listens; it writes this down once it does."""
    note = profile / "DevToolsActivePort"
    for _ in range(600):
        if note.is_file() and len(lines := note.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.1)
    raise RuntimeError(f"Chromium wrote no {note}.")
