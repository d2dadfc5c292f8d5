"""The page of `vrcodec eval` in a browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="the report is NOT tested in a browser: chromium is not installed"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: sync_api.Browser, eval_report: Path) -> Iterator[sync_api.Page]:
    """The report, which has to be silent and to ask for nothing from elsewhere."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            complaints.append(request.url)
            if not request.url.startswith(("file:", "data:"))
            else None
        ),
    )
    page.goto((eval_report / "report.html").as_uri())
    yield page
    assert complaints == []
    page.close()


def number(locator: sync_api.Locator) -> float:
    return float(locator.inner_text().split()[0].replace(",", ""))


def test_the_dial_moves_by_keyboard_and_mouse(page: sync_api.Page, eval_report: Path) -> None:
    dial = page.locator("[data-viewer=dial]")
    slider = page.get_by_label("Quality", exact=True)
    parts = {name: dial.locator(f"[data-part={name}]") for name in ("quality", "bytes", "psnr")}

    def shown() -> tuple[float, ...]:
        return tuple(number(part) for part in parts.values())

    with (eval_report / "pictures.csv").open(newline="") as file:
        wanted = {
            float(row["quality"]): (int(row["bytes"]), round(float(row["psnr"]), 2))
            for row in csv.DictReader(file)
            if (row["picture"], row["codec"]) == ("hibiscus.png", "vrcodec")
        }
    slider.focus()
    source = dial.locator("img.left").get_attribute("src")
    for key, quality in (("Home", 0.0), ("End", 1.0)):
        page.keyboard.press(key)
        assert shown()[0] == quality
        assert shown()[1:] == pytest.approx(wanted[quality], abs=0.011)
    assert dial.locator("img.left").get_attribute("src") != source
    top = shown()
    page.keyboard.press("ArrowLeft")
    assert shown() < top and shown()[0] == 0.9
    assert slider.get_attribute("aria-valuetext") == "0.9"
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    assert shown()[0] == 0.2
    dial.get_by_label("Picture").select_option(label="macaw.png")
    assert shown()[0] == 0.2 and shown()[1] > wanted[0.0][0]


def test_the_line_between_two_pictures_moves(page: sync_api.Page) -> None:
    pair = page.locator("[data-viewer=pair]").nth(1)
    left = pair.locator("img.left")
    split = pair.get_by_label("Line between the two")

    def seen() -> float:
        clip = left.evaluate("image => getComputedStyle(image).clipPath")
        cut = (
            float(clip.split("calc(100% - ")[1].split("%")[0])
            if "calc" in clip
            else (100 - float(clip.split()[1].rstrip("%")))
        )
        assert split.evaluate("slider => Number(slider.value)") == cut
        return cut

    assert seen() == 50
    split.focus()
    page.keyboard.press("ArrowRight")
    assert seen() == 51
    stage = pair.locator(".pane")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 30, steps=3)
    page.mouse.up()
    assert seen() == pytest.approx(20, abs=1)
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 30)
    assert seen() == pytest.approx(20, abs=1)


def test_pairs_have_the_same_size_and_can_be_enlarged(page: sync_api.Page) -> None:
    pair = page.locator("[data-viewer=pair]").nth(1)
    cells = pair.locator("[data-part=sides] td")
    for rate in ("0", "1", "2"):
        pair.locator("[data-part=rate]").select_option(rate)
        for codec in ("JPEG", "JPEG XL"):
            pair.get_by_label("Right").select_option(label=codec)
            ours, theirs = (
                [cell.strip() for cell in row.split("\t")[1:]]
                for row in pair.locator("[data-part=sides]").inner_text().splitlines()
            )
            assert ours[0].startswith("vrcodec") and theirs[0] == codec
            sizes = [float(row[2].split()[0].replace(",", "")) for row in (ours, theirs)]
            assert 0.8 * sizes[0] < sizes[1] <= 1.011 * sizes[0] or "smallest" in theirs[2]
            assert 15 < float(theirs[4]) < 60
    pair.get_by_label("Left").select_option("original")
    assert cells.first.inner_text() == "original"
    widths = "images => images.map(image => image.naturalWidth)"
    assert len(set(pair.locator("img").evaluate_all(widths)) - {0}) == 1

    pane, layers = pair.locator(".pane"), pair.locator(".layers")
    assert pane.bounding_box()["width"] == layers.bounding_box()["width"]
    pair.get_by_label("Zoom").select_option("4")
    assert layers.bounding_box()["width"] == pytest.approx(4 * pane.bounding_box()["width"], abs=60)
    before = pane.evaluate("pane => pane.scrollLeft")
    assert before > 0
    pane.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "([pane, x]) => pane.scrollLeft < x", arg=[pane.element_handle(), before]
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_readable_colours(page: sync_api.Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    luminances = page.evaluate("""() => {
      const style = getComputedStyle(document.body);
      return [style.color, style.backgroundColor].map((colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => {
          const x = part / 255;
          return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      });
    }""")
    assert (max(luminances) + 0.05) / (min(luminances) + 0.05) > 7
    assert (luminances[0] > luminances[1]) == (scheme == "dark")
    axis = page.locator("#curves text").first
    assert axis.evaluate("text => getComputedStyle(text).fill") == page.evaluate(
        "getComputedStyle(document.body).color"
    )
