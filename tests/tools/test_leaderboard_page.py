"""index.html in a browser: from a file, with no complaint or request, in light and dark, on a phone, by keyboard."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.browser import CHROMIUM, Browser
from tests.tools.invented import CPU, a_board, invent, submission
from tools.leaderboard import act, parser

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM} (on Debian: apt install chromium)")

NAMES = "[...document.querySelectorAll('.board')[1].tBodies[0].rows].map((row) => row.querySelector('a').textContent)"
OPEN = "document.getElementById('drawer').open"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
# what a reader sees as text against what lies under it; the WCAG's own formula
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = rgb(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return rgb(getComputedStyle(document.documentElement).colorScheme === "dark" ? "#000" : "#fff");
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg, title")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(under(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push([walk.currentNode.data.slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return poor;
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = a_board(tmp_path_factory.mktemp("board") / "records")
    invent(root, "2026-11-19_evil", submission(
        name="<script>document.title='taken'</script><b>" + "unbroken" * 40, author="</style><img src=http://a.b/c>",
        blurb="<img src=x onerror=document.title='taken'>", seeds=2, compliance={"'\"><script>1": True}))  # fmt: skip
    act(parser().parse_args([str(root)]))
    return root / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def fresh(browser: Browser) -> Iterator[None]:
    browser.size(1280)
    browser.scheme("light")
    yield
    browser.script(True)


def test_it_opens_from_a_file_without_complaint_or_request(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.value("document.title") == "Bitgolf records"
    assert browser.value("document.querySelectorAll('.board').length") == 3
    assert browser.value("document.scripts.length") == 1


def test_a_click_on_a_column_sorts_by_it_and_another_turns_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    first = browser.value(NAMES)
    assert first[0].startswith("Calibrated")
    click = "document.querySelectorAll('.board')[1].querySelectorAll('th button')[5].click()"
    sizes = "[...document.querySelectorAll('.board')[1].tBodies[0].rows].map((row) => +row.cells[5].dataset.value)"
    browser.value(click)
    assert browser.value(sizes) == sorted(browser.value(sizes))
    assert browser.value(NAMES) != first
    browser.value(click)
    assert browser.value(sizes) == sorted(browser.value(sizes), reverse=True)
    heads = (
        "[...document.querySelectorAll('.board')[1].querySelectorAll('th')].map((th) => th.getAttribute('aria-sort'))"
    )
    assert browser.value(heads) == [None] * 5 + ["descending"] + [None] * 4
    browser.value("document.querySelectorAll('.board')[1].querySelector('th button').click()")
    assert browser.value(NAMES) == first


def test_a_panel_opens_by_its_address_by_click_and_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, f"#{CPU}.2026-11-09_1")
    assert browser.value(f"[{OPEN}, document.activeElement.textContent]") == [True, "Wider layers"]
    browser.press("Escape", 27)
    assert browser.value(f"new Promise((done) => setTimeout(() => done([{OPEN}, location.hash]), 50))") == [False, ""]
    link = "document.querySelectorAll('.board')[1].querySelectorAll('a.name')[0]"
    browser.value(f"{link}.focus()")
    browser.press("Enter", 13)
    later = (
        f"new Promise((done) => setTimeout(() => done([{OPEN}, document.querySelector('#shown h3').textContent]), 50))"
    )
    assert browser.value(later) == [True, "Calibrated clipping and a smaller tokenizer"]
    browser.value("document.getElementById('close').click()")
    assert browser.value(f"new Promise((done) => setTimeout(() => done({OPEN}), 50))") is False
    assert browser.value("document.querySelectorAll('#panels > .panel').length") == 9
    assert browser.complaints == []


def test_a_point_of_a_chart_leads_to_its_panel(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.querySelectorAll('.group')[1].querySelector('.point').dispatchEvent("
                  "new MouseEvent('click', { bubbles: true, cancelable: true }))")  # fmt: skip
    assert browser.value(f"new Promise((done) => setTimeout(() => done({OPEN}), 50))") is True


def test_it_is_dark_where_the_system_is_and_where_the_reader_says_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    light = browser.value(BACKGROUND)
    browser.scheme("dark")
    dark = browser.value(BACKGROUND)
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 120 < 600 < sum(map(int, re.findall(r"\d+", light)[:3]))
    press = "document.getElementById('theme').click()"
    browser.value(press)
    assert [browser.value(BACKGROUND), browser.value("document.getElementById('theme').textContent")] == [
        light, "Theme: light"]  # fmt: skip
    browser.scheme("light")
    browser.value(press)
    assert browser.value(BACKGROUND) == dark
    browser.value(press)
    assert browser.value(BACKGROUND) == light


@pytest.mark.parametrize("width", [360, 760, 1280])
@pytest.mark.parametrize("script", [True, False])
def test_nothing_is_wider_than_the_window(
    browser: Browser, page: Path, tmp_path: Path, width: int, script: bool
) -> None:
    browser.size(width)
    browser.script(script)
    browser.open(page)
    assert browser.value("document.documentElement.scrollWidth") <= width
    outside = """[...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
      && node.getBoundingClientRect().right > innerWidth + 0.5 && !node.closest('.scroll, thead, .skip, svg'))
      .map((node) => node.outerHTML.slice(0, 80))"""
    assert browser.value(outside) == []
    if script:
        browser.open(page, f"#{CPU}.2026-11-09_1")
        assert browser.value("(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(drawer)") == 0
        assert browser.value(outside) == []
    browser.picture(tmp_path / "page.png")
    assert struct.unpack(">II", (tmp_path / "page.png").read_bytes()[16:24]) == (width, 900)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_under_it(browser: Browser, page: Path, scheme: str) -> None:
    browser.scheme(scheme)
    browser.open(page)
    assert browser.value(CONTRAST) == []
    browser.open(page, f"#{CPU}.2026-11-09_1")
    assert browser.value(CONTRAST) == []


def test_without_a_script_every_panel_can_be_read(browser: Browser, page: Path) -> None:
    browser.script(False)
    browser.open(page)
    panels = "[...document.querySelectorAll('.panel')].filter((panel) => panel.checkVisibility()).length"
    assert browser.value(panels) == 9
    assert browser.value("document.querySelectorAll('button:not([hidden])').length") == 1  # in the closed dialog
    assert browser.value(OPEN) is False
    assert browser.complaints == []
