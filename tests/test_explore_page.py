"""The page of `vrcodec explore` in a browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import GOLDEN, TESTS, picture, wait_for
from PIL import Image

import vrcodec
from vrcodec import Codec
from vrcodec.explore.browser import opened

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow
TINY = GOLDEN / "tiny.safetensors"
MACAW = TESTS / "pictures" / "macaw.png"
LIGHTHOUSE = TESTS / "pictures" / "lighthouse.png"
EXACT = "the file, exactly"
WAIT = 60_000
expect = sync_api.expect
expect.set_options(timeout=WAIT)


@contextlib.contextmanager
def serving(environment: dict[str, str], *arguments: str | Path) -> Iterator[tuple[str, object]]:
    """The command's process, and the address that it prints."""
    command = [sys.executable, "-m", "vrcodec", "explore", "--no-browser", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(vrcodec_environment: dict[str, str]) -> Iterator[str]:
    """A server with the tiny model, and a limit of 200 000 pixels."""
    options = ("--weights", TINY, "--max-pixels", "200000")
    with serving(vrcodec_environment, *options) as (address, process):
        yield address
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors


@contextlib.contextmanager
def looking(
    browser: sync_api.Browser, address: str, size: tuple[int, int] = (1200, 900), **options: bool
) -> Iterator[sync_api.Page]:
    """A tab, which has to be silent and to ask for nothing from elsewhere."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
    page.set_default_timeout(WAIT)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, f"blob:{address.rpartition('/')[0][:17]}"))
            else complaints.append(request.url)
        ),
    )
    page.goto(address)
    yield page
    page.close()
    assert complaints == []


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    with looking(browser, address) as page:
        yield page


def part(page: sync_api.Page, name: str) -> sync_api.Locator:
    return page.locator(f"[data-part={name}]").first


def upload(page: sync_api.Page, path: Path, state: str = EXACT) -> None:
    part(page, "file").set_input_files(path)
    expect(part(page, "state")).to_have_text(state, timeout=WAIT)


def fact(page: sync_api.Page, title: str) -> float:
    cell = part(page, "facts").locator("div").filter(has_text=title).locator("dd")
    return float(cell.inner_text().split()[0].replace(",", ""))


def slide(page: sync_api.Page, name: str, key: str) -> None:
    page.get_by_label(name, exact=True).focus()
    page.keyboard.press(key)


def settled(page: sync_api.Page) -> None:
    expect(part(page, "state")).to_have_text("preview", timeout=WAIT)
    expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)


TRANSFER = """([name, bytes]) => {
  const transfer = new DataTransfer();
  if (bytes) transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  else transfer.setData("text/plain", name);
  return transfer;
}"""
PASTE = """(target, clipboardData) => target.dispatchEvent(
  new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }),
)"""
PIXELS = """image => {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def pixels(page: sync_api.Page, side: str, size: tuple[int, int]) -> np.ndarray:
    """What one side of the split view shows, uint8 (H, W, 3)."""
    samples = np.array(page.locator(f"img.{side}").evaluate(PIXELS), dtype=np.uint8)
    return samples.reshape(size[1], size[0], 4)[..., :3]


def test_a_picture_is_opened_and_its_file_taken_home(page: sync_api.Page, tmp_path: Path) -> None:
    upload(page, MACAW)
    with page.expect_download() as download:
        page.get_by_text("Save .vrc").click()
    data = Path(download.value.path()).read_bytes()
    assert download.value.suggested_filename == "macaw.vrc"
    assert data == Codec(TINY, "cpu").encode(MACAW, 0.5)
    assert fact(page, "File size") == len(data)
    with page.expect_download() as download:
        part(page, "png").click()
    shown = np.asarray(vrcodec.decode(data, weights=TINY))
    assert (np.asarray(Image.open(download.value.path())) == shown).all()
    sent = tmp_path / "sent.vrc"
    sent.write_bytes(data)
    upload(page, sent, "the file that was opened")
    assert fact(page, "File size") == len(data)
    assert "a .vrc file" in part(page, "notes").inner_text()


def test_every_dial_moves(
    browser: sync_api.Browser, vrcodec_environment: dict[str, str], weights_of_two_dials: Path
) -> None:
    """The picture and all figures follow the newest position, by keyboard and by mouse."""
    codec, image = Codec(weights_of_two_dials, "cpu"), MACAW
    options = ("--weights", weights_of_two_dials, MACAW)
    with (
        serving(vrcodec_environment, *options) as (address, _),
        looking(browser, address) as page,
    ):
        expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        dials = page.locator("[data-dial]")
        assert [dial.get_attribute("data-dial") for dial in dials.all()] == ["quality", "tune"]
        assert fact(page, "File size") == len(codec.encode(image, 0.5))
        before = pixels(page, "left", (256, 192))
        for name, key, positions in (
            ("quality", "End", {"quality": 1.0}),
            ("tune", "Home", {"quality": 1.0, "tune": 0.0}),
        ):
            slide(page, name, key)
            settled(page)
            data = codec.encode(image, dials=positions)
            assert fact(page, "File size") == len(data)
            assert (pixels(page, "left", (256, 192)) == np.asarray(codec.decode(data))).all()
            assert (pixels(page, "left", (256, 192)) != before).any()
        box = dials.first.bounding_box()
        for place in (0.2, 0.4, 0.6, 0.8):
            page.mouse.click(box["x"] + place * box["width"], box["y"] + box["height"] / 2)
        settled(page)
        position = float(dials.first.input_value())
        assert position == pytest.approx(0.8, abs=0.02)
        data = codec.encode(image, dials={"quality": position, "tune": 0.0})
        assert fact(page, "File size") == len(data)


def test_another_codec_at_the_same_size(page: sync_api.Page) -> None:
    upload(page, MACAW)
    page.get_by_role("button", name="JPEG", exact=True).click()
    rows = part(page, "rows").locator("tr")
    expect(rows).to_have_count(2)
    expect(part(page, "progress")).to_be_hidden()
    ours, theirs = (row.inner_text().split("\t") for row in rows.all())
    assert (ours[0], theirs[0]) == ("vrcodec", "JPEG")
    sizes = [float(row[1].split()[0].replace(",", "")) for row in (ours, theirs)]
    assert 0.8 * sizes[0] < sizes[1] <= 1.011 * sizes[0]
    assert page.locator(".tag.right").inner_text().startswith("JPEG, its quality ")
    page.keyboard.press("f")
    page.get_by_label("Beside it").select_option("bits")
    expect(part(page, "legend")).to_contain_text("by the entropy model")


def test_a_size_an_effort_and_the_curve(page: sync_api.Page) -> None:
    upload(page, MACAW)
    part(page, "value").fill("3000")
    page.get_by_role("button", name="Find").click()
    expect(part(page, "state")).to_have_text("coding…")
    expect(part(page, "state")).to_have_text(EXACT)
    assert 2700 < fact(page, "File size") <= 3000
    found = page.get_by_label("quality", exact=True).input_value()
    assert found != "0.5"
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("circle.dot")).to_have_count(9)
    expect(page.locator("circle.here")).to_have_count(1)
    expect(part(page, "progress")).to_be_hidden()
    part(page, "level").select_option("1")
    page.get_by_role("button", name="Try it").click()
    expect(part(page, "bought")).to_contain_text("Effort 1: ")
    part(page, "level").select_option("9")
    page.get_by_role("button", name="Try it").click()
    page.get_by_role("button", name="Cancel").click()
    expect(part(page, "progress")).to_be_hidden()
    part(page, "value").fill("3")
    page.get_by_role("button", name="Find").click()
    expect(part(page, "message")).to_contain_text("cannot be reached")


def test_a_picture_may_come_before_the_page_knows_its_model(
    browser: sync_api.Browser, address: str
) -> None:
    page, held = browser.new_page(), []
    page.route("**/model", lambda route: held.append(route))
    page.goto(address)
    part(page, "file").set_input_files(LIGHTHOUSE)
    page.wait_for_timeout(300)
    held[0].continue_()
    expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
    page.close()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: sync_api.Page, way: str) -> None:
    upload(page, LIGHTHOUSE)
    transfer = page.evaluate_handle(TRANSFER, [MACAW.name, [*MACAW.read_bytes()]])
    text = page.evaluate_handle(TRANSFER, ["words", None])
    if way == "drop":
        for event, given, marked in (
            ("dragover", text, False),
            ("dragover", transfer, True),
            ("dragleave", transfer, False),
            ("dragover", transfer, True),
        ):
            page.dispatch_event("main:visible", event, {"dataTransfer": given})
            assert page.evaluate("document.body.matches('.dropping')") is marked
        page.dispatch_event("main:visible", "drop", {"dataTransfer": text})
        page.dispatch_event("main:visible", "drop", {"dataTransfer": transfer})
        assert not page.evaluate("document.body.matches('.dropping')")
    else:
        part(page, "value").evaluate(PASTE, text)
        page.locator("body").evaluate(PASTE, transfer)
    expect(part(page, "notes")).to_contain_text("macaw.png, 256")
    expect(part(page, "state")).not_to_have_text(EXACT)
    expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
    assert (pixels(page, "right", (256, 192)) == np.asarray(Image.open(MACAW))).all()
    assert fact(page, "File size") == len(Codec(TINY, "cpu").encode(MACAW, 0.5))


def swipe(page: sync_api.Page, *places: tuple[float, float]) -> None:
    """One finger from place to place, a real one to the browser."""
    session = page.context.new_cdp_session(page)
    for kind, (x, y) in zip(["touchStart", *["touchMove"] * len(places)], places, strict=False):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()


def test_fingers_move_the_line_the_page_and_an_enlarged_picture(
    browser: sync_api.Browser, address: str
) -> None:
    phone = {"has_touch": True, "is_mobile": True}
    with looking(browser, address, (390, 844), **phone) as page:
        upload(page, MACAW)
        box = page.locator(".pane").bounding_box()
        left, top, width, height = (box[key] for key in ("x", "y", "width", "height"))
        line, middle = part(page, "split"), top + height / 2

        def across(*shares: float) -> list[tuple[float, float]]:
            return [(left + share * width, middle) for share in shares]

        page.touchscreen.tap(*across(0.8)[0])
        expect(line).to_have_value(re.compile("^(79|80|81)$"))
        swipe(page, *across(0.5, 0.4, 0.3, 0.2))
        expect(line).to_have_value(re.compile("^(19|20|21)$"))
        swipe(page, *((left + width / 4, middle + 60 - 12 * step) for step in range(10)))
        page.wait_for_timeout(500)
        assert page.evaluate("window.scrollY") > 30
        expect(line).to_have_value(re.compile("^(19|20|21)$"))
        page.evaluate("window.scrollTo(0, 0)")
        part(page, "zoom").select_option("4")
        scrolled = page.locator(".pane").evaluate("pane => pane.scrollLeft")
        swipe(page, *across(0.7, 0.6, 0.5, 0.4, 0.3))
        page.wait_for_timeout(500)
        assert page.locator(".pane").evaluate("pane => pane.scrollLeft") > scrolled + 30
        expect(line).to_have_value(re.compile("^(19|20|21)$"))


@pytest.mark.parametrize("size", [(390, 844), (820, 1180), (844, 390), (1440, 900), (1920, 1080)])
@pytest.mark.parametrize("path", [MACAW, LIGHTHOUSE], ids=["landscape", "portrait"])
def test_picture_and_dial_are_in_sight_together(
    browser: sync_api.Browser, address: str, size: tuple[int, int], path: Path
) -> None:
    """Also while the rest of the page is read."""
    with looking(browser, address, size) as page:
        upload(page, path)
        page.get_by_label("quality", exact=True).focus()  # scrolls as far as it is needed
        for _ in range(2):
            stage, dial = (
                page.locator(name).bounding_box() for name in (".stage", "[data-dial=quality]")
            )
            seen = min(size[1], stage["y"] + stage["height"]) - max(0, stage["y"])
            assert seen > 0.75 * stage["height"]
            assert 0 <= dial["y"] <= size[1] - dial["height"]
            assert 0 <= dial["x"] <= size[0] - dial["width"]
            apart = stage["x"] + stage["width"] <= dial["x"]
            assert apart or stage["y"] + stage["height"] <= dial["y"]
            page.evaluate("window.scrollTo(0, 1e6)")


def test_styles_move_as_well(page: sync_api.Page, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from vrcodec.stylize.stylizer import Stylizer
    from vrcodec.stylize.weights import find, load_style

    upload(page, MACAW)
    page.get_by_label("Style", exact=True).first.check()
    expect(page.locator(".tag.left")).to_have_text("fresco")
    expect(part(page, "facts")).to_be_hidden()
    part(page, "styles").select_option("mosaic")
    expect(page.locator(".tag.left")).to_have_text("mosaic")
    sliders = page.locator("[data-dial]:visible")
    names = [slider.get_attribute("data-dial") for slider in sliders.all()]
    assert names == ["content", "fine", "small", "medium", "large"]
    with page.expect_response(lambda answer: "content=1&" in answer.url):
        slide(page, "content", "End")
    with page.expect_response(lambda answer: "large=0" in answer.url):
        slide(page, "large", "Home")
    expect(part(page, "stylepng")).to_have_attribute("href", re.compile("content=1&.*large=0$"))
    source = np.asarray(Image.open(MACAW))
    wanted = Stylizer(load_style(find("mosaic"))).apply(source, {"content": 1, "large": 0})
    # Sums of floats come in another order with other threads.
    assert abs(pixels(page, "left", (256, 192)).astype(int) - wanted).max() <= 2
    assert (pixels(page, "right", (256, 192)) == source).all()
    with page.expect_download() as download:
        part(page, "stylepng").click()
    assert download.value.suggested_filename == "macaw.mosaic.png"
    saved = np.asarray(Image.open(download.value.path()))
    assert (saved == pixels(page, "left", (256, 192))).all()
    page.get_by_label("Compress").check()
    settled(page)
    assert fact(page, "File size") == len(Codec(TINY, "cpu").encode(MACAW, 0.5))


def test_without_styles_there_is_one_mode(browser: sync_api.Browser, address: str) -> None:
    page = browser.new_page()

    def without(route: sync_api.Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"styles": False})

    page.route("**/model", without)
    page.goto(address)
    upload(page, MACAW)
    assert part(page, "modes").is_hidden()
    page.close()


def test_the_file_for_the_browser_leads_to_the_page(
    browser: sync_api.Browser, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file of this machine, which is another site to a browser."""
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", asked.append)
    page = browser.new_page()
    with opened(address):
        wait_for(lambda: bool(asked))
        assert asked[0].startswith("file:///")
        page.goto(asked[0])
        page.wait_for_url(address)
        upload(page, LIGHTHOUSE)
    page.close()


def test_another_name_of_this_machine_is_refused(browser: sync_api.Browser, address: str) -> None:
    """To a browser rebound.localhost is 127.0.0.1."""
    page = browser.new_page()
    answer = page.goto(address.replace("127.0.0.1", "rebound.localhost"))
    assert answer.status == 421 and "vrcodec" not in page.content()
    page.close()


def test_what_is_no_picture_is_said(page: sync_api.Page, tmp_path: Path) -> None:
    upload(page, MACAW)
    for name, data, words in (
        ("<b>x</b>.txt", b"no picture", "<b>x</b>.txt: "),
        ("x.vrc", b"VRC" + bytes(30), "x.vrc: "),
    ):
        path = tmp_path / name.replace("/", "_")
        path.write_bytes(data)
        part(page, "file").set_input_files(path)
        expect(part(page, "message")).to_contain_text(words.replace("/", "_"))
        assert part(page, "message").locator("b").count() == 0
    large = tmp_path / "large.png"
    Image.new("L", (1000, 1000)).save(large)
    part(page, "file").set_input_files(large)
    expect(part(page, "message")).to_contain_text("200,000 pixels")
    slide(page, "quality", "Home")
    settled(page)
    expect(part(page, "message")).to_be_hidden()


def test_two_tabs_at_once(browser: sync_api.Browser, address: str, tmp_path: Path) -> None:
    codec, paths = Codec(TINY, "cpu"), [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        picture(i, 120, 90).save(path)
    with looking(browser, address) as first, looking(browser, address) as second:
        for page, path in ((first, paths[0]), (second, paths[1])):
            part(page, "file").set_input_files(path)
        for page in (first, second):
            expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        slide(first, "quality", "End")
        slide(second, "quality", "Home")
        for page, path, quality in ((first, paths[0], 1), (second, paths[1], 0)):
            tag = page.locator(".tag.left")
            expect(tag).to_have_text(f"quality {quality:.2f}")
            expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
            wanted = codec.decode(codec.encode(path, quality))
            assert (pixels(page, "left", (120, 90)) == np.asarray(wanted)).all()


def test_a_page_without_its_server_says_so(
    browser: sync_api.Browser, vrcodec_environment: dict[str, str]
) -> None:
    with (
        serving(vrcodec_environment, "--weights", TINY, MACAW) as (address, process),
        looking(browser, address) as page,
    ):
        expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        page.reload()  # what was open is open again
        expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        process.terminate()
        process.wait(30)
        slide(page, "quality", "Home")
        expect(part(page, "message")).to_contain_text("No answer from vrcodec")


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_in_both_colours(page: sync_api.Page, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    upload(page, MACAW)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(map(int, text[4:-1].split(","))) for text in (ink, paper)]
    assert abs(light[0] - light[1]) > 450 and (light[0] > light[1]) is (scheme == "dark")


def test_broken_connections_hurt_nobody(address: str) -> None:
    """Half an upload, half a question, work that nobody waits for: the next one is answered."""
    parts = urlsplit(address)
    place = parts.hostname, parts.port
    own = f"Host: {parts.netloc}\r\n"

    def ask(method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection(*place, timeout=60)
        connection.request(method, parts.path + path, body)
        answer = connection.getresponse().read()
        connection.close()
        return answer

    known = ask("POST", "pictures?name=a.png", MACAW.read_bytes()).decode()
    picture_id = known.split('"id":"')[1].split('"')[0]
    question = b'{"effort": 9}'
    for start, body in (
        (f"POST {parts.path}pictures HTTP/1.1\r\n{own}Content-Length: 90000\r\n\r\n", bytes(1000)),
        (f"POST {parts.path}pictures/{picture_id}/code HTTP/1.1\r\n{own}"
         f"Content-Length: {len(question)}\r\n\r\n", question),
        (f"GET {parts.path}mod", b""),
        ("\0\xff nothing like HTTP\r\n\r\n", b""),
    ):  # fmt: skip
        with socket.create_connection(place, timeout=60) as connection:
            connection.sendall(start.encode("latin-1") + body)
    assert b'"bytes"' in ask("POST", f"pictures/{picture_id}/code", b'{"dials": {"quality": 0.1}}')
    assert b'"weights"' in ask("GET", "model")


def test_it_listens_on_this_machine_alone(address: str) -> None:
    parts = urlsplit(address)
    assert parts.hostname == "127.0.0.1" and len(parts.path) > 20
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    connection.request("GET", f"{parts.path}model", headers={"Host": "rebound.example"})
    assert connection.getresponse().status == 421
    connection.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", parts.port), timeout=5)


def test_what_cannot_begin_is_one_line(vrcodec_environment: dict[str, str], address: str) -> None:
    port = urlsplit(address).port
    for arguments, words in (
        (("missing.png",), "missing.png: no such file"),
        (("--port", port), f"127.0.0.1:{port}: address already in use"),
    ):
        with serving(vrcodec_environment, "--weights", TINY, *arguments) as (_, process):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1
            assert words in errors and len(errors.splitlines()) == 1


@contextlib.contextmanager
def held(page: sync_api.Page, place: str) -> Iterator[list[sync_api.Route]]:
    """Requests to a place wait; what is yielded lets them go on, one by one."""
    waiting: list[sync_api.Route] = []
    page.route(place, lambda route: waiting.append(route))
    yield waiting
    page.unroute(place)


def until(page: sync_api.Page, waiting: list[sync_api.Route]) -> sync_api.Route:
    for _ in range(WAIT // 50):
        if waiting:
            return waiting.pop(0)
        page.wait_for_timeout(50)
    raise AssertionError("nobody has asked")


def go_on(page: sync_api.Page, route: sync_api.Route) -> None:
    """An answer that may be wanted by nobody any longer."""
    with contextlib.suppress(sync_api.Error):
        route.continue_()
    page.wait_for_timeout(500)


def test_a_side_shows_what_was_chosen_last(page: sync_api.Page) -> None:
    upload(page, MACAW)
    with held(page, "**/bits") as waiting:
        page.get_by_label("Beside it").select_option("bits")
        late = until(page, waiting)
        page.get_by_label("Beside it").select_option("original")
        go_on(page, late)
    expect(page.locator(".tag.right")).to_have_text("original")
    assert part(page, "legend").is_hidden()
    assert (pixels(page, "right", (256, 192)) == np.asarray(Image.open(MACAW))).all()
    with held(page, "**/shown") as waiting:
        page.get_by_role("button", name="JPEG", exact=True).click()
        late = until(page, waiting)
        page.get_by_label("Beside it").select_option("bits")
        go_on(page, late)
    expect(page.locator(".tag.right")).to_have_text("where the bits go")
    expect(part(page, "progress")).to_be_hidden()
    rows = part(page, "rows").locator("tr")
    expect(rows).to_have_count(2)
    assert "…" not in part(page, "rows").inner_text()


@pytest.mark.parametrize("place", ["**/original", "**/pictures?name=macaw.png"])
def test_the_picture_that_was_opened_last_is_shown(
    page: sync_api.Page, tmp_path: Path, place: str
) -> None:
    """Also where the one before is late, which is offered nevertheless."""
    second = tmp_path / "second.png"
    picture(4, 256, 192).save(second)
    with held(page, place) as waiting:
        part(page, "file").set_input_files(MACAW)
        late = [until(page, waiting)]
        page.wait_for_timeout(200)
        late += waiting
        page.route(place, lambda route: route.continue_())
        page.locator("[data-part=file]").last.set_input_files(second)
        expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        for route in late:
            go_on(page, route)
    expect(part(page, "notes")).to_contain_text("second.png")
    expect(part(page, "pictures").locator("option")).to_have_count(2)
    assert page.locator("[data-part=pictures] option:checked").inner_text() == "second.png"
    assert (pixels(page, "right", (256, 192)) == np.asarray(Image.open(second))).all()
    wanted = Codec(TINY, "cpu").decode(Codec(TINY, "cpu").encode(second, 0.5))
    assert (pixels(page, "left", (256, 192)) == np.asarray(wanted)).all()


def test_after_a_refusal_or_a_cancelled_search_the_file_is_there(page: sync_api.Page) -> None:
    upload(page, MACAW)
    size = fact(page, "File size")

    def refuse() -> None:
        part(page, "measure").select_option("size")
        part(page, "value").fill("3")
        page.get_by_role("button", name="Find").click()
        expect(part(page, "message")).to_contain_text("cannot be reached")
        expect(part(page, "state")).to_have_text(EXACT)
        assert part(page, "files").is_visible()

    refuse()
    assert fact(page, "File size") == size
    with held(page, "**/code") as waiting:
        part(page, "value").fill("3000")
        page.get_by_role("button", name="Find").click()
        expect(part(page, "state")).to_have_text("coding…")
        late = until(page, waiting)
        page.get_by_role("button", name="Cancel").click()
        expect(part(page, "state")).to_have_text(EXACT)
        go_on(page, late)
    assert fact(page, "File size") == size
    slide(page, "quality", "Home")  # a file for the new place is not there yet
    refuse()
    assert fact(page, "File size") == len(Codec(TINY, "cpu").encode(MACAW, 0.0))
    assert "…" not in part(page, "facts").inner_text()


def test_figures_of_an_opened_file_are_not_waited_for(page: sync_api.Page, tmp_path: Path) -> None:
    sent = tmp_path / "sent.vrc"
    sent.write_bytes(Codec(TINY, "cpu").encode(MACAW, 0.3))
    upload(page, sent, "the file that was opened")
    expect(part(page, "rows").locator("tr")).to_have_count(1)
    assert "…" not in part(page, "rows").inner_text()
    assert "\N{EN DASH}" in part(page, "rows").inner_text()


def test_a_curve_says_which_dials_and_how_much_of_it_there_is(
    browser: sync_api.Browser, vrcodec_environment: dict[str, str], weights_of_two_dials: Path
) -> None:
    options = ("--weights", weights_of_two_dials, MACAW)
    with (
        serving(vrcodec_environment, *options) as (address, _),
        looking(browser, address) as page,
    ):
        expect(part(page, "state")).to_have_text(EXACT, timeout=WAIT)
        page.get_by_role("button", name="Draw").click()
        expect(page.locator("circle.dot")).to_have_count(9)
        expect(part(page, "progress")).to_be_hidden()
        note, ring = part(page, "curvenote"), page.locator("circle.here")
        assert note.is_hidden() and ring.count() == 1
        slide(page, "quality", "Home")
        settled(page)
        assert note.is_hidden() and ring.count() == 1
        slide(page, "tune", "Home")
        expect(note).to_contain_text("where the dials are no longer")
        settled(page)
        expect(ring).to_have_count(0)
        page.get_by_role("button", name="Draw").click()
        expect(page.locator("circle.dot")).not_to_have_count(0)
        page.get_by_role("button", name="Cancel").click()
        expect(part(page, "progress")).to_be_hidden()
        expect(note).to_contain_text(re.compile(r"^Unfinished: [2-8] points\.$"))


def test_pictures_that_are_closed_are_named_and_offered_no_longer(
    page: sync_api.Page, tmp_path: Path
) -> None:
    for i in range(9):
        path = tmp_path / f"{i}.png"
        picture(i).save(path)
        upload(page, path)
        part(page, "state").evaluate("element => { element.textContent = ''; }")
    options = part(page, "pictures").locator("option").all_inner_texts()
    assert len(options) <= 8 and options[-1] == "8.png" and "0.png" not in options
    expect(part(page, "notes")).to_contain_text("closed to make room: 0.png")
