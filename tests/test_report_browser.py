"""The report in headless Chromium: what a reader's browser makes of it, and what clicks and keys do."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Window, opened, tour
from PIL import Image
from published import COLOURS, Page, demo_params, publish
from test_report import HOSTILE

from stage.report.cards import slug
from stage.report.pages import write_report
from stage.synthesis.rows import Identity

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: the report was NOT opened in a browser. `apt-get install chromium`."
)
SHOWN = "[...document.querySelectorAll('li.sample')].filter(it => it.offsetParent)"  # cards that a reader can see


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose category and defect types have hostile names, and ordinary ones beside them."""
    folder = tmp_path_factory.mktemp("browser")
    categories = ["fabric", "<b>&'"]
    publish(folder / "data", categories, ["hole", *HOSTILE])
    write_report(folder / "data", folder / "report", demo_params(categories))
    return folder / "report"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """A window of one browser for all tests."""
    with opened("about:blank", tmp_path_factory.mktemp("browser") / "profile") as window:
        yield window


@pytest.fixture
def window(browser: Window) -> Window:
    """That window, empty."""
    if browser.value("location.href") != "about:blank":
        browser.go("about:blank")
    return browser


def test_the_check_itself_sees_errors_and_requests(tmp_path: Path, window: Window) -> None:
    """Otherwise the tests below pass on any page."""
    page = tmp_path / "bad.html"
    page.write_text("<img src=http://127.0.0.1:9/x.png><script>console.error('broken')</script>")
    [seen] = tour(window, [page])

    assert any("broken" in line for line in seen.console)
    assert seen.requested == ["http://127.0.0.1:9/x.png"]


def test_every_page_opens_without_complaint_and_without_the_network(report: Path, window: Window) -> None:
    """Otherwise the report is broken offline, or a name in the data runs as code in it."""
    pages = sorted(report.glob("*.html"))
    visits = tour(window, pages)

    assert (
        len(pages) == 3 + 2 * 3
    )  # overview, methods side by side, how it was made, and of each category one, one of its lineage and one of its near-duplicates
    assert [line for seen in visits for line in seen.console] == []
    assert [address for seen in visits for address in seen.requested] == []
    assert all(Page(seen.dom).tags.count("script") == 1 for seen in visits)


def test_a_script_in_the_data_would_not_run(report: Path, window: Window) -> None:
    """Otherwise the escaping of names is all that stands between a file name and the reader's browser."""
    page = report / "injected.html"
    page.write_text((report / "index.html").read_text().replace("<h1>", "<script>document.title = 'injected'</script><h1>"))
    [seen] = tour(window, [page])
    page.unlink()

    assert "<title>injected" not in seen.dom
    assert any("Content Security Policy" in line for line in seen.console)


def test_headline_numbers_are_in_the_document(report: Path, window: Window) -> None:
    """Otherwise the browser drops or moves what the template wrote."""
    window.go((report / "index.html").as_uri())
    table = Page(window.dom).tables["headline"]

    assert ["<b>&'", "real and stage", "10", "75.0 ± 1.4", *["+25.0 (+13.1 to +36.9)", "75.0 ± 1.4"], "+25.0 (+13.1 to +36.9)"] in table


def test_every_picture_decodes_in_the_browser(report: Path, window: Window) -> None:
    """Otherwise a page shows broken pictures: a probe beside the pages loads each and writes down its width."""
    sources = sorted({str(image["src"]) for page in report.glob("*.html") for image in Page(page).images})
    probe = report / "probe.html"
    probe.write_text(
        "<body><script>const widths = {};"
        f"for (const source of {json.dumps(sources)}) {{ const image = new Image(); document.body.append(image);"
        "image.onload = () => { widths[source] = image.naturalWidth; document.body.dataset.widths = JSON.stringify(widths) };"
        "image.src = source }</script>"
    )
    window.go(probe.as_uri())
    probe.unlink()

    widths = json.loads(window.value("document.body.dataset.widths"))
    assert sorted(widths) == sources
    assert min(widths.values()) >= 12


def test_pictures_are_painted_crisp_on_the_page(report: Path, tmp_path: Path, window: Window) -> None:
    """Otherwise the page's own policy or style hides the pictures, or blurs the enlarged pixels.

    3 accepted samples of 4 types show a 4 px square: in the gallery in a 12 px crop, a ninth of a tile of at least 60 px each; and under
    Fidelity twice, six times enlarged.
    """
    shot = tmp_path / "shot.png"
    window.call("Emulation.setDeviceMetricsOverride", width=1280, height=16000, deviceScaleFactor=1, mobile=False)  # the whole page
    window.go((report / "category-fabric.html").as_uri())
    window.value("Promise.all([...document.images].map(it => (it.loading = 'eager', it.decode())))")
    window.picture(shot)
    window.call("Emulation.clearDeviceMetricsOverride")
    pixels = np.asarray(Image.open(shot).convert("RGB"))

    painted = {method: np.count_nonzero((pixels == colour).all(axis=2)) for method, colour in COLOURS.items()}
    assert min(painted.values()) > 12 * 60 * 60 / 9 + 24 * 24**2, painted


def test_no_page_is_wider_than_its_window_and_no_table_than_a_laptop_s(report: Path, window: Window) -> None:
    """A reader would push tables to and fro to compare their columns, or on a telephone the page itself."""
    cut = "[...document.querySelectorAll('.scroll')].filter(it => it.scrollWidth > it.clientWidth).map(it => it.ariaLabel)"
    for page in sorted(report.glob("*.html")):
        for width in (1280, 390):
            window.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            window.go(page.as_uri())
            assert window.value("document.documentElement.scrollWidth") <= width, (page.name, width)
            assert width == 390 or window.value(cut) == [], page.name
    window.call("Emulation.clearDeviceMetricsOverride")


def test_a_click_on_a_heading_sorts_the_table(report: Path, window: Window) -> None:
    """Otherwise the best of twenty arms has to be looked for by eye; rows without a difference or with a dash stay last, averages at the foot."""
    rows = "[...document.querySelector('#headline').tBodies[0].rows].map(row => row.cells[4].innerText.trim().slice(0, 5))"
    heading = "#headline thead th:nth-child(5)"
    window.go((report / "index.html").as_uri())
    before = window.value(rows)
    window.click(f"{heading} button")
    descending, told = window.value(rows), window.value(f"document.querySelector('{heading}').ariaSort")
    window.press("Enter")  # the heading that was clicked has the focus
    ascending = window.value(rows)
    foot = window.value("document.querySelector('#headline').tFoot.innerText")
    values = "[...document.querySelector('#headline').tBodies[0].rows].map(row => row.cells[3].innerText.trim().slice(0, 4))"
    window.value(
        "(cell => { cell.textContent = '–'; delete cell.dataset.value })(document.querySelector('#headline tbody td:nth-child(4)'))"
    )
    orders = []
    for _ in range(2):
        window.click("#headline thead th:nth-child(4) button")
        orders.append(window.value(values))

    assert before == ["", "+25.0", "−25.0"] * 2
    assert descending == ["+25.0", "+25.0", "−25.0", "−25.0", "", ""]
    assert told == "descending"
    assert ascending == ["−25.0", "−25.0", "+25.0", "+25.0", "", ""]
    assert foot.startswith("Average")
    assert orders == [["75.0", "75.0", "50.0", "50.0", "25.0", "–"], ["25.0", "50.0", "50.0", "75.0", "75.0", "–"]]


def test_filters_hide_cards(report: Path, window: Window) -> None:
    """Otherwise one method's samples of one type cannot be looked at alone: 5 types of 3 accepted and 1 rejected a method, and 2 real."""
    kinds = f"{SHOWN}.map(it => [it.dataset.made, it.dataset.defect, it.dataset.verdict].join())"
    window.go((report / "category-fabric.html").as_uri())
    first = window.value(kinds)
    window.click("input[value=paste]")
    without = window.value(kinds)
    window.click("input[value=rejected]")
    faint = window.value(kinds)
    for name in ("real", "accepted", "hole"):
        window.click(f"input[value={name}]")
    last, groups = (
        window.value(kinds),
        window.value("[...document.querySelectorAll('section.group')].filter(it => it.offsetParent).length"),
    )
    told = window.value("document.querySelector('.filters output').value")

    assert len(first) == 5 * (3 + 3 + 2)
    assert len(without) == 5 * (3 + 2)
    assert len(faint) == 5 * (3 + 1 + 2)
    assert sorted(last) == sorted(f"stage,{name},rejected" for name in HOSTILE)
    assert groups == len(HOSTILE)
    assert told == "4 of 50 shown"


def test_the_keyboard_reaches_and_enlarges_every_card(report: Path, window: Window) -> None:
    """Otherwise a reader without a mouse sees no sample enlarged, or presses Tab a thousand times to get past the gallery."""
    focus = f"{SHOWN}.indexOf(document.activeElement.closest('li.sample'))"
    window.go((report / "category-fabric.html").as_uri())
    window.value("document.querySelector('input[value=rejected]').focus()")
    window.press(" ")
    window.press("Tab")
    places = [window.value(focus)]
    outline = window.value("getComputedStyle(document.activeElement).outlineStyle")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home", "ArrowDown", "ArrowUp"):
        window.press(key)
        places.append(window.value(focus))
    window.press("Enter")
    dialog = window.value("[document.querySelector('dialog').open, document.querySelector('dialog p').innerText]")
    window.press("Enter")  # the dialog's only button, Close
    closed = window.value(f"[document.querySelector('dialog').open, {focus}]")
    window.press("Tab")
    beyond = window.value(focus)

    assert places[:6] == [0, 1, 2, 1, 49, 0]
    assert places[6] > 1
    assert places[7] == 0
    assert outline == "solid"
    assert dialog[0]
    assert "mask" in dialog[1]
    assert closed == [False, 0]
    assert beyond == -1


@pytest.mark.parametrize("category", ["fabric", "<b>&'"])
def test_a_click_leads_from_a_sample_to_its_photographs_and_back(report: Path, category: str, window: Window) -> None:
    """An auditor could not ask the report what a sample was made from, or what came of a photograph; names are hostile here.

    Background 1 has sample 1 of 5 types by both methods; the first photograph of each type gives the masks of stage's 4 samples of that type.
    """
    gallery, lineage = f"category-{slug(category)}.html", f"lineage-{slug(category)}.html"
    target = "document.querySelector('.photograph:target')"
    window.go((report / gallery).as_uri())
    window.click("[id='hole-stage-accepted-00001'] a")
    told = window.value("document.querySelector('dialog .facts').innerText")
    links = window.value("[...document.querySelectorAll('dialog .facts a')].map(it => it.innerText.trim())")
    window.click("dialog .facts a")
    window.arrive(lineage)
    section = window.value(f"{target}.innerText")
    made = window.value(f"[...{target}.querySelectorAll('.made a')].map(it => it.title)")
    pictures = f"[...{target}.querySelectorAll('img')].map(it => (it.loading = 'eager', it.decode().then(() => it.naturalWidth)))"
    widths = window.value(f"Promise.all({pictures})")
    window.click(".photograph:target .made li:last-child a")
    window.arrive(gallery)
    back = window.value("[document.querySelector('dialog').open, document.querySelector('dialog p').innerText]")
    window.click("dialog tr:first-child .photo")
    window.arrive(lineage)
    same = window.value(f"{target}.querySelector('h3').innerText")

    assert links[:2] == [f"{category}/good/train-1.png", f"{category}/hole/train-0.png"]
    assert links[2:] == ["c" * 12, "b" * 12]
    assert "stage, seed 0, attempt 0" in told
    assert "accepted, contrast" in told
    assert section.startswith(links[0])
    assert sorted(made) == sorted(Identity(method, category, defect, 1, 0).sample_id for method in COLOURS for defect in ("hole", *HOSTILE))
    assert min(widths) > 0
    assert back[0]
    assert made[-1] in back[1]
    assert same == links[0]


def test_the_keyboard_leads_from_a_rejected_sample_to_what_trained_its_network(report: Path, window: Window) -> None:
    """A reader without a mouse could not follow a sample, or the page would lose a sample that its filters hide."""
    window.go((report / "category-fabric.html").as_uri())
    window.call("Page.navigate", url="about:blank")
    window.call("Page.navigate", url=f"{(report / 'category-fabric.html').as_uri()}#hole-stage-rejected-00000")
    window.arrive("category-fabric.html")
    for _ in range(3):  # from Close over background and mask to the adapters
        window.press("Tab")
    told = window.value("document.activeElement.closest('table').innerText")
    window.press("Enter")
    window.arrive("lineage-fabric.html")
    heading = window.value("document.querySelector('section:target h3').innerText")
    trained = window.value("[...document.querySelectorAll('section:target .trained a')].map(it => it.title)")
    window.click(f"section:target .trained a[title='{trained[0]}']")
    section = window.value("document.querySelector('.photograph:target').innerText")

    assert "rejected: looks normal" in told
    assert heading == "adapters"
    assert sorted(trained) == sorted(
        f"fabric/{one}/train-{k}.png" for one, many in [("good", 4), *((name, 2) for name in ("hole", *HOSTILE))] for k in range(many)
    )
    assert "Trained the adapters cccccccccccc, which made 20 samples" in section


def test_a_gallery_of_5000_opens_and_is_filtered(report: Path, tmp_path: Path, window: Window) -> None:
    """Otherwise the report on a real run cannot be opened, or reads every picture at once: here one card and its file 5,000 times."""
    folder, source = tmp_path / "report", "pictures/fabric/samples/hole/stage-accepted/00000.webp"
    shutil.copytree(report, folder)
    page = folder / "category-fabric.html"
    text, picture = page.read_text(), (folder / source).read_bytes()
    [card] = re.findall(f'<li class="sample accepted"[^>]*><a href="{source}">.*?</li>', text, re.DOTALL)
    for number in range(5000):
        (folder / f"{number}.webp").write_bytes(picture)
    page.write_text(text.replace(card, "".join(card.replace(source, f"{number}.webp") for number in range(5000))))
    window.go(page.as_uri())
    shown = window.value(f"{SHOWN}.length")
    read = window.value("[...document.querySelectorAll('li.sample img')].filter(it => it.naturalWidth).length")
    window.click("input[value=stage]")
    left = window.value(f"{SHOWN}.length")

    assert shown == 4999 + 5 * (3 + 3 + 2)
    assert left == 5 * (3 + 2)
    assert read < 500
    assert max(path.stat().st_size for path in report.rglob("*.webp")) < 8_000
