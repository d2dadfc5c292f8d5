"""The page of `vrcodec eval` in a browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


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


def test_a_key_flips_between_left_and_right(page: sync_api.Page) -> None:
    pair = page.locator("[data-viewer=pair]").nth(1)
    pair.locator(".stage").scroll_into_view_if_needed()
    pair.locator("[data-part=flip]").focus()
    split = pair.get_by_label("Line between the two")
    seen = []
    for _ in range(3):
        page.keyboard.press("f")
        seen.append(split.input_value())
    assert seen == ["100", "0", "100"]
    page.keyboard.press("Control+f")
    assert split.input_value() == "100"
    others = page.locator("[data-viewer=pair]").nth(0).get_by_label("Line between the two")
    assert others.input_value() == "50"
    pair.get_by_label("View").select_option("difference")
    left = pair.locator("img.left")
    assert left.evaluate("image => getComputedStyle(image).mixBlendMode") == "difference"
    assert left.evaluate("image => getComputedStyle(image).clipPath") == "none"


def test_the_headline_and_what_comes_first(page: sync_api.Page, eval_report: Path) -> None:
    rates = json.loads((eval_report / "bd_rates.json").read_text())
    assert rates[0]["against"] == "AVIF"
    words = []
    for metric, title in (("psnr", "PSNR"), ("ssimulacra2", "SSIMULACRA2")):
        percent = rates[0]["bd_rate_percent"][metric]["percent"]
        kind = "fewer" if percent < 0 else "more"
        words.append((f"{abs(percent):.0f} % {kind} bits", f"at equal {title}"))
    text = " ".join(page.locator(".headline").inner_text().split())
    assert text == (f"{words[0][0]} than AVIF {words[0][1]}, {words[1][0]} {words[1][1]}.")
    for viewer in page.locator("[data-viewer=pair]").all():
        assert viewer.get_by_label("Right").input_value() == "avif"
    links = page.locator("nav a")
    for link in links.all():
        assert page.locator(link.get_attribute("href")).count() == 1
    assert links.count() == page.locator("main > section").count() == 7


@pytest.mark.parametrize("width", [1280, 390])
def test_the_headline_is_seen_before_all_else(page: sync_api.Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    places = [
        page.locator(part).first.bounding_box() for part in (".headline", "nav", "main > section")
    ]
    tops = [place["y"] for place in places]
    assert tops == sorted(tops)
    assert places[0]["y"] + places[0]["height"] < 300
    assert places[1]["y"] + places[1]["height"] < 700  # contents, too, without scrolling


def test_the_contents_lead_to_their_sections(page: sync_api.Page) -> None:
    page.set_viewport_size({"width": 1000, "height": 500})
    for link in page.get_by_role("navigation", name="Contents").get_by_role("link").all():
        page.evaluate("window.scrollTo(0, 0)")
        link.click()
        section = page.locator(link.get_attribute("href"))
        section.locator("h2").wait_for(state="visible")
        assert -1 <= section.bounding_box()["y"] < 500


def test_the_table_of_bd_rates(page: sync_api.Page, eval_report: Path) -> None:
    """All metrics, SSIMULACRA2 among them, as the JSON file has them, AVIF first."""
    table = page.get_by_role("region", name="BD-rates")
    heads = table.locator("thead th").all_inner_texts()
    names = {"PSNR": "psnr", "MS-SSIM": "ms_ssim", "SSIMULACRA2": "ssimulacra2"}
    assert heads == ["Against", *names]
    rates = json.loads((eval_report / "bd_rates.json").read_text())
    rows = table.locator("tbody tr").all()
    assert rows[0].locator("th").inner_text() == "AVIF"
    for row, rate in zip(rows, rates, strict=False):
        assert row.locator("th").inner_text().split("\n")[0].strip() == rate["against"]
        for cell, metric in zip(row.locator("td").all(), names.values(), strict=True):
            shown = float(cell.inner_text().split()[0].replace("\N{MINUS SIGN}", "-"))
            assert shown == pytest.approx(rate["bd_rate_percent"][metric]["percent"], abs=0.051)


def test_the_dial_flips_by_the_same_key(page: sync_api.Page) -> None:
    dial = page.locator("[data-viewer=dial]")
    split = dial.get_by_label("Line between the two")
    page.locator("#position").focus()
    seen = []
    for _ in range(3):
        page.keyboard.press("f")
        seen.append(split.input_value())
    assert seen == ["100", "0", "100"]
    dial.get_by_role("button", name="Flip").click()
    assert split.input_value() == "0"


def test_points_in_plots_say_their_values(page: sync_api.Page, eval_report: Path) -> None:
    curve = json.loads((eval_report / "curves" / "vrcodec.json").read_text())["results"]
    point = page.locator('[id="psnr.vrcodec.1"]')
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 4, box["y"] + box["height"] / 2 - 3)
    tip = page.locator("figure .tip").first
    tip.wait_for(state="visible")
    assert tip.inner_text().endswith(
        f"quality 0.5: {curve['bpp'][1]:.3f} bpp, PSNR {curve['psnr-rgb'][1]:.2f}"
    )
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim", "ssimulacra2"])
def test_every_plot_answers_fingers(
    metric: str, browser: sync_api.Browser, eval_report: Path
) -> None:
    """A value stays when the finger is lifted, and goes with the next touch elsewhere."""
    size = {"width": 390, "height": 800}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True)
    phone = context.new_page()
    phone.goto((eval_report / "report.html").as_uri())
    point = phone.locator(f'[id="{metric}.avif.1"]')
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    phone.touchscreen.tap(x, y)
    tip = phone.locator("figure .tip").filter(visible=True)
    tip.wait_for(state="visible")
    assert tip.inner_text().startswith("AVIF, quality ") and " bpp, " in tip.inner_text()
    place = tip.bounding_box()
    assert place["x"] >= 0 and place["x"] + place["width"] <= 390
    phone.locator("#curves h2").tap()
    tip.wait_for(state="hidden")
    context.close()


def test_small_pictures_fill_the_column(page: sync_api.Page) -> None:
    dial = page.locator("[data-viewer=dial]")
    dial.get_by_label("Picture").select_option(label="hibiscus.png")
    shown, column = (
        dial.locator(name).bounding_box()["width"] for name in (".layers", ".controls")
    )
    assert dial.locator("img.left").evaluate("image => image.naturalWidth") < column / 4
    assert shown == pytest.approx(column, abs=1)


def test_tables_that_go_on_beyond_the_edge_say_so(page: sync_api.Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    table = page.get_by_role("region", name="Speed and memory")
    table.scroll_into_view_if_needed()
    more = table.locator("xpath=following-sibling::*[1]")
    assert table.evaluate("box => box.classList.contains('cut')")
    assert more.is_visible() and more.inner_text().startswith("more to the right")
    first = table.locator("tbody th").first
    before = first.bounding_box()["x"]
    table.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    page.wait_for_function("box => !box.classList.contains('cut')", arg=table.element_handle())
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)
    page.set_viewport_size({"width": 1200, "height": 700})
    more.wait_for(state="hidden")


def test_the_dial_is_in_the_table_of_points(page: sync_api.Page, eval_report: Path) -> None:
    curve = json.loads((eval_report / "curves" / "vrcodec.json").read_text())
    table = page.get_by_role("region", name="Points of vrcodec")
    heads = table.locator("thead th").all_inner_texts()
    assert heads[:3] == ["Quality", "λ", "bpp"]
    cells = table.locator("tbody tr").last.locator("td").all_inner_texts()
    assert float(cells[0]) == pytest.approx(curve["results"]["lambda"][-1], rel=0.01)
    assert curve["dials"]["quality"]["coefficients"] == curve["results"]["lambda"]
    assert curve["dials"]["quality"]["positions"] == [0, 0.5, 1]


def test_all_that_is_cut_on_a_phone_says_so(page: sync_api.Page) -> None:
    """Tables and plots alike, and nothing that is whole does."""
    page.set_viewport_size({"width": 390, "height": 800})
    boxes = page.locator(".scroll:visible, figure:visible")
    cut = 0
    for box in boxes.all():
        beyond = box.evaluate("box => box.scrollWidth - box.clientWidth > 4")
        more = box.locator("xpath=following-sibling::*[1]")
        assert more.is_visible() == beyond
        assert box.evaluate("box => box.classList.contains('cut')") == beyond
        cut += beyond
    assert cut > 4


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
