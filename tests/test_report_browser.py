"""The report in headless Chromium: what a reader's browser makes of it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from test_report import COLOURS, HOSTILE, Page, demo_params, publish

from stage.report.pages import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: the report was NOT opened in a browser. `apt-get install chromium`."
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-default-apps"),
    *(
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
    ),
)


class Visit(NamedTuple):
    """The document after loading, what the console said, and the addresses off this machine's disk that the page asked for."""

    dom: str
    console: list[str]
    requested: list[str]


def visit(page: Path, profile: Path, *flags: str) -> Visit:
    """Open a page in a fresh browser."""
    log = profile.with_suffix(".netlog.json")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={log}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # The browser itself asks for updates and the time; such requests have no page as their origin.
    requested = [event["url"] for event in events if "url" in event and event.get("initiator", "not an origin") != "not an origin"]
    return Visit(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], requested)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose category and defect types have hostile names, and ordinary ones beside them."""
    folder = tmp_path_factory.mktemp("browser")
    categories = ["fabric", "<b>&'"]
    publish(folder / "data", categories, ["hole", *HOSTILE])
    write_report(folder / "data", folder / "report", demo_params(categories))
    return folder / "report"


def test_the_check_itself_sees_errors_and_requests(tmp_path: Path) -> None:
    """Otherwise the tests below pass on any page."""
    page = tmp_path / "bad.html"
    page.write_text("<img src=http://127.0.0.1:9/x.png><script>console.error('broken')</script>")
    seen = visit(page, tmp_path / "profile", "--dump-dom")

    assert any("broken" in line for line in seen.console)
    assert seen.requested == ["http://127.0.0.1:9/x.png"]


def test_every_page_opens_without_complaint_and_without_the_network(report: Path, tmp_path: Path) -> None:
    """Otherwise the report is broken offline, or a name in the data runs as code in it."""
    pages = sorted(report.glob("*.html"))
    visits = [visit(page, tmp_path / page.stem, "--dump-dom") for page in pages]

    assert len(pages) == 2 + 2 * 2  # overview, how it was made, and one of each category and method
    assert [line for seen in visits for line in seen.console] == []
    assert [address for seen in visits for address in seen.requested] == []
    assert not any({"script", "b"} & set(Page(seen.dom).tags) for seen in visits)


def test_headline_numbers_are_in_the_document(report: Path, tmp_path: Path) -> None:
    """Otherwise the browser drops or moves what the template wrote."""
    cells = Page(visit(report / "index.html", tmp_path / "profile", "--dump-dom").dom).cells

    assert cells["<b>&', stage"] == ["10", "50.0", "75.0", "+25.0", "62.5", "87.5", "+25.0"]


def test_every_picture_decodes_in_the_browser(report: Path, tmp_path: Path) -> None:
    """Otherwise a page shows broken pictures: a probe beside the pages loads each and writes down its width."""
    sources = sorted({str(image["src"]) for page in report.glob("*.html") for image in Page(page).images})
    probe = report / "probe.html"
    probe.write_text(
        "<body><script>const widths = {};"
        f"for (const source of {json.dumps(sources)}) {{ const image = new Image(); document.body.append(image);"
        "image.onload = () => { widths[source] = image.naturalWidth; document.body.dataset.widths = JSON.stringify(widths) };"
        "image.src = source }</script>"
    )
    dom = visit(probe, tmp_path / "profile", "--dump-dom").dom
    probe.unlink()

    widths = json.loads(Attributes(dom).body["data-widths"] or "{}")
    assert sorted(widths) == sources
    assert min(widths.values()) >= 12


@pytest.mark.parametrize("method", COLOURS)
def test_pictures_are_painted_crisp_on_the_page(report: Path, tmp_path: Path, method: str) -> None:
    """Otherwise the page's own policy or style hides the pictures, or blurs the enlarged pixels.

    12 accepted samples and more show an enlarged 4 px square in a 12 px crop: a ninth of a tile of at least 60 px each.
    """
    page, shot = report / f"category-{method}-fabric.html", tmp_path / "shot.png"
    visit(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1280,3000")
    pixels = np.asarray(Image.open(shot).convert("RGB"))

    assert np.count_nonzero((pixels == COLOURS[method]).all(axis=2)) > 12 * 60 * 60 / 9


class Attributes(Page):
    """A page and the attributes of its body."""

    body: dict[str, str | None]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "body":
            self.body = dict(attrs)
