"""The server of `vrcodec explore`: who is answered, what is refused, and what it makes."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, TESTS, picture
from PIL import Image

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")
from starlette.testclient import TestClient

from vrcodec.bitstream.container import unpack
from vrcodec.codec.codec import Codec
from vrcodec.codec.latents import Latents
from vrcodec.evaluation.codecs.pillow import CODECS
from vrcodec.evaluation.metrics import PSNR, measured_metrics
from vrcodec.explore import server, work
from vrcodec.explore.bits import bits_of_blocks
from vrcodec.explore.lanes import Lane
from vrcodec.explore.server import Desk, make_app
from vrcodec.explore.shelf import MAX_PICTURES, PREVIEW_PIXELS, PREVIEWS, RESULTS
from vrcodec.pictures import colour, read_pixels

TOKEN, PORT = "a-token", 8123
HERE = f"http://127.0.0.1:{PORT}"
PICTURE = TESTS / "pictures" / "macaw.png"
PREVIEW = {"dials": {"quality": 0.37}}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(GOLDEN / "tiny.safetensors", "cpu", max_pixels=100_000, threads=1)


@pytest.fixture(autouse=True)
def quick_metrics(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PSNR alone is measured, but in slow tests."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(work, "measured_metrics", lambda *_: [PSNR])


@pytest.fixture
def desk(codec: Codec) -> Desk:
    return Desk(codec)


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(desk, TOKEN, PORT), base_url=HERE) as client:
        client.base_url = f"{HERE}/{TOKEN}/"
        yield client


def add(client: TestClient, data: bytes, name: str = "a.png") -> dict[str, Any]:
    answer = client.post("pictures", params={"name": name}, content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def lines(client: TestClient, path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def facts(told: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for line in told for key, value in line.items()}


def small() -> bytes:
    file = io.BytesIO()
    picture(1).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{PORT}"}, 421),
        ({"host": "127.0.0.1:1"}, 421),
        ({"host": ""}, 421),
        ({"origin": HERE}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"https://127.0.0.1:{PORT}"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_foreign_hosts_and_origins_are_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.get("model", headers=headers)
    assert answer.status_code == status
    assert ("weights" in answer.text) is (status == 200)


@pytest.mark.parametrize("path", ["/", "/model", "/wrong/model", f"/{TOKEN}x/model", "//model"])
def test_nothing_is_said_without_the_token(client: TestClient, path: str) -> None:
    answer = client.get(f"{HERE}{path}")
    assert answer.status_code == 404
    assert TOKEN not in answer.text


def test_the_page_asks_no_other_host_and_may_not(client: TestClient) -> None:
    for name in server._ASSETS:
        answer = client.get(name)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("../pyproject.toml").status_code == 404


@pytest.mark.slow
def test_a_file_is_the_one_that_encode_makes(client: TestClient, codec: Codec) -> None:
    place = f"pictures/{add(client, PICTURE.read_bytes())['id']}"
    told = lines(client, f"{place}/code", PREVIEW)
    known = facts(told)
    data = client.get(f"{place}/made/{known['made']}/vrc").content
    assert data == codec.encode(PICTURE, 0.37)
    assert known["bytes"] == len(data) and known["bpp"] == 8 * len(data) / (256 * 192)
    assert known["dials"]["quality"] == pytest.approx(0.37, abs=1e-4)
    shown = Image.open(io.BytesIO(client.get(f"{place}/made/{known['made']}/shown").content))
    saved = Image.open(io.BytesIO(client.get(f"{place}/made/{known['made']}/png").content))
    wanted = np.asarray(codec.decode(data))
    assert (np.asarray(shown) == wanted).all() and (np.asarray(saved) == wanted).all()
    assert saved.format == "PNG"
    pixels = np.asarray(Image.open(PICTURE).convert("RGB"))
    for metric in measured_metrics():
        assert known[metric.name] == pytest.approx(metric.measure(pixels, wanted))
    assert known.keys() >= {"psnr", "ms_ssim", "ssimulacra2"} or len(measured_metrics()) < 3


@pytest.mark.parametrize("quality", [0.25, 0.37, 1.0])
def test_a_preview_is_nearly_the_file(client: TestClient, codec: Codec, quality: float) -> None:
    """At a knot of the dial its pixels are those of the file."""
    place = f"pictures/{add(client, PICTURE.read_bytes())['id']}"
    answer = client.post(f"{place}/preview", json={"dials": {"quality": quality}})
    guess = json.loads(answer.headers["x-facts"])
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    data = codec.encode(PICTURE, quality)
    wanted = np.asarray(codec.decode(data)).astype(int)
    assert guess["bytes"] == pytest.approx(len(data), rel=0.05)
    assert abs(shown - wanted).max() <= (0 if quality * 8 == int(quality * 8) else 40)
    assert guess["psnr"] > 20


def test_the_analysis_is_made_once(
    client: TestClient, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    networks = codec.pipeline.networks
    analysis = networks.analysis
    monkeypatch.setattr(networks, "analysis", lambda *a: calls.append(1) or analysis(*a))
    place = f"pictures/{add(client, small())['id']}"
    for quality in (0.48, 0.5, 0.52, 0.5):
        client.post(f"{place}/preview", json={"dials": {"quality": quality}})
    assert len(calls) == 1


def test_a_preview_is_measured_after_it_is_shown(client: TestClient, desk: Desk) -> None:
    source = np.asarray(picture(3, 200, 180))
    file = io.BytesIO()
    Image.fromarray(source).save(file, "PNG")
    place = f"pictures/{add(client, file.getvalue())['id']}"
    answer = client.post(f"{place}/preview", json=PREVIEW)
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    name = json.loads(answer.headers["x-facts"])["preview"]
    told = client.get(f"{place}/previews/{name}").text
    known = facts([json.loads(line) for line in told.splitlines()])
    assert known == {
        metric.name: pytest.approx(metric.measure(source, shown))
        for metric in work.measured_metrics()
        if metric.name != "psnr"
    }
    for _ in range(PREVIEWS):
        client.post(f"{place}/preview", json=PREVIEW)
    assert client.get(f"{place}/previews/{name}").status_code == 404


def test_a_picture_in_a_style(client: TestClient) -> None:
    pytest.importorskip("torch")
    from vrcodec.stylize.stylizer import Stylizer
    from vrcodec.stylize.weights import find, load_style, names

    known = client.get("styles").json()
    assert [*known] == names() and all(style["credit"] for style in known.values())
    assert {"name": "content", "default": 0.5} in known["mosaic"]["dials"]
    place = f"pictures/{add(client, small())['id']}/styles"
    for kind in ("shown", "png"):
        answer = client.get(f"{place}/mosaic/{kind}", params={"content": 0.2, "fine": 1})
        made = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
        stylizer = Stylizer(load_style(find("mosaic")))
        wanted = stylizer.apply(np.asarray(picture(1)), {"content": 0.2, "fine": 1})
        assert abs(made - wanted).max() <= 2
    for path, asked, status in (
        ("none/shown", {}, 404),
        ("mosaic/other", {}, 404),
        ("mosaic/shown", {"content": "much"}, 400),
        ("mosaic/shown", {"content": "nan"}, 400),
        ("mosaic/shown", {"content": "2"}, 400),
        ("mosaic/shown", {"beauty": "1"}, 400),
    ):
        answer = client.get(f"{place}/{path}", params=asked)
        assert answer.status_code == status and answer.json()["error"].isprintable()


def test_without_torch_there_are_no_styles(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert client.get("model").json()["styles"] is False
    answer = client.get("styles")
    assert answer.status_code == 400 and "PyTorch" in answer.json()["error"]


def test_targets_are_kept_to(client: TestClient) -> None:
    place = f"pictures/{add(client, PICTURE.read_bytes())['id']}"
    target = {"measure": "size", "value": 3000}
    known = facts(lines(client, f"{place}/code", {"target": target}))
    assert 2700 < known["bytes"] <= 3000
    told = lines(client, f"{place}/code", {"target": target | {"value": 10}})
    assert "cannot be reached" in told[-1]["error"]


@pytest.mark.slow
def test_effort_says_how_far_it_is(client: TestClient) -> None:
    pytest.importorskip("torch")
    place = f"pictures/{add(client, small())['id']}"
    told = lines(client, f"{place}/code", PREVIEW | {"effort": 2})
    steps = [line["progress"] for line in told if "progress" in line]
    assert len(steps) > 4 and steps == sorted(steps) and steps[-1] == 1
    assert facts(told)["bytes"] > 0


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_others_are_as_large(client: TestClient, name: str) -> None:
    place = f"pictures/{add(client, PICTURE.read_bytes())['id']}"
    known = facts(lines(client, f"{place}/compare", {"codec": name, "bytes": 6000}))
    assert 5000 < known["bytes"] <= 6060 and known["fits"]
    image = Image.open(PICTURE).convert("RGB")
    assert known["bytes"] == len(CODECS[name].encode(image, known["quality"]))
    small = facts(lines(client, f"{place}/compare", {"codec": name, "bytes": 1}))
    assert small["fits"] is False


def test_the_curve_goes_over_the_whole_dial(client: TestClient) -> None:
    place = f"pictures/{add(client, small())['id']}"
    points = [line["point"] for line in lines(client, f"{place}/curve", {}) if "point" in line]
    assert [point["quality"] for point in points] == list(work.CURVE)
    assert [point["bpp"] for point in points] == sorted(point["bpp"] for point in points)


def test_the_map_adds_up_to_the_file(codec: Codec) -> None:
    """Bits of all blocks are those that the entropy model says of all latents."""
    data = codec.encode(PICTURE, 0.6)
    blocks = bits_of_blocks(codec.pipeline, data)
    stream = unpack(data)
    latents: Latents = codec.pipeline.read_latents(stream)
    assert blocks.shape == (12, 16) and blocks.min() > 0
    assert blocks.sum() == pytest.approx(
        codec.pipeline.estimate_bits(latents, stream.header.conditioning)
    )
    assert blocks.sum() == pytest.approx(8 * len(data), rel=0.05)


def test_a_vrc_file_opens_as_it_is(client: TestClient, codec: Codec) -> None:
    data = codec.encode(PICTURE, 0.2)
    known = add(client, data, "sent.vrc")
    assert known["file"]["bytes"] == len(data)
    assert known["file"]["dials"]["quality"] == pytest.approx(0.2, abs=1e-4)
    place = f"pictures/{known['id']}/made/{known['file']['made']}"
    assert client.get(f"{place}/vrc").content == data
    assert client.get(f"{place}/bits").status_code == 200


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("x.txt", b"no picture at all", 400, "x.txt: "),
        ("<img src=x>.png", b"", 400, "<img src=x>.png: "),
        ("x.vrc", b"VRC\x28" + bytes(40), 400, "x.vrc: "),
        ("cut.png", PICTURE.read_bytes()[:5000], 400, "cut.png: "),
    ],
)
def test_what_is_no_picture_is_one_line(
    client: TestClient, name: str, data: bytes, status: int, words: str
) -> None:
    answer = client.post("pictures", params={"name": name}, content=data)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.startswith(words) and error.isprintable()


def test_large_pictures_and_files_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    Image.new("L", (400, 300)).save(file, "PNG")
    answer = client.post("pictures", content=file.getvalue())
    assert (
        answer.status_code == 400
        and "400x300 is more than 100,000 pixels" in answer.json()["error"]
    )
    monkeypatch.setattr(server, "MAX_UPLOAD", 1000)
    assert client.post("pictures", content=bytes(1001)).status_code == 413
    pieces = (bytes(400) for _ in range(5))
    assert client.post("pictures", content=pieces).status_code == 413


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"[]",
        b"{" * 10_000,
        b'{"dials": 3}',
        b'{"dials": {"quality": "high"}}',
        b'{"dials": {"quality": 7}}',
        b'{"dials": {"nothing": 0.5}}',
        b'{"target": {"measure": "beauty", "value": 3}}',
        b'{"target": {"measure": "size", "value": NaN}}',
        b'{"effort": 10}',
        b'{"effort": "3"}',
    ],
)
def test_impossible_questions_are_one_line(client: TestClient, asked: bytes) -> None:
    place = f"pictures/{add(client, small())['id']}"
    answer = client.post(f"{place}/code", content=asked)
    assert answer.status_code == 400 and answer.json()["error"].isprintable()
    assert client.post(f"{place}/code", content=bytes(1 << 15)).status_code == 413


def test_what_is_gone_is_said(client: TestClient, desk: Desk) -> None:
    first = add(client, small())["id"]
    for _ in range(MAX_PICTURES):
        add(client, small())
    assert client.get(f"pictures/{first}").status_code == 404
    last = next(reversed(desk.shelf))
    assert client.get(f"pictures/{last}/made/nothing/vrc").status_code == 404


def test_pictures_are_held_up_to_a_number_of_pixels(client: TestClient, desk: Desk) -> None:
    """The oldest is closed for a new one, and the answer says so."""
    file = io.BytesIO()
    Image.new("L", (300, 300)).save(file, "PNG")
    opened = [add(client, file.getvalue(), f"{i}.png") for i in range(7)]
    assert len(desk.shelf) == 4
    told = [[one["name"] for one in answer["closed"]] for answer in opened]
    assert told == [[], [], [], [], ["0.png"], ["1.png"], ["2.png"]]
    assert opened[-1]["closed"][0]["id"] == opened[2]["id"]


def test_others_do_not_push_out_the_file_that_is_offered(client: TestClient, desk: Desk) -> None:
    known = add(client, small())
    place = f"pictures/{known['id']}"
    ours = facts(lines(client, f"{place}/code", PREVIEW))
    theirs = [
        facts(lines(client, f"{place}/compare", {"codec": name, "bytes": 3000}))["made"]
        for name in ("jpeg", "webp") * RESULTS
    ]
    for kind in ("vrc", "png", "bits", "shown"):
        assert client.get(f"{place}/made/{ours['made']}/{kind}").status_code == 200
    answers = [client.get(f"{place}/made/{name}/shown").status_code for name in theirs]
    assert answers == [404] * (len(theirs) - 2) + [200, 200]
    assert client.get(f"{place}/made/{theirs[-1]}/vrc").status_code == 404


def test_the_file_that_was_opened_stays(client: TestClient, codec: Codec, desk: Desk) -> None:
    """However often the page is loaded again, and whatever is made of it."""
    data = codec.encode(PICTURE, 0.2)
    known = add(client, data, "sent.vrc")
    place = f"pictures/{known['id']}"
    for _ in range(RESULTS):
        facts(lines(client, f"{place}/code", PREVIEW))
        assert client.get(place).json()["file"]["made"] == known["file"]["made"]
    assert client.get(f"{place}/made/{known['file']['made']}/vrc").content == data
    assert len(desk.shelf[known["id"]].made) == RESULTS


def display_p3(grey: bool = False) -> bytes:
    if grey:
        return colour.grey_profile(colour._parametric(0, 1.0))
    return colour.rgb_profile(colour._PRIMARIES[12][1], colour.SRGB_TONE, "Display P3")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_colours_are_shown_as_their_profile_says(client: TestClient, mode: str) -> None:
    """The page's pictures have no profile, so they are in sRGB; what is saved keeps it."""
    profile, file = display_p3(mode == "L"), io.BytesIO()
    colours = Image.new("RGB", (64, 48), (200, 40, 40)).convert(mode)
    colours.save(file, "PNG", icc_profile=profile)
    wanted = read_pixels(file.getvalue(), "a.png")[0, 0].astype(int)
    stored = np.asarray(colours.convert("RGB"))[0, 0].astype(int)
    assert abs(wanted - stored).max() > 10
    known = add(client, file.getvalue())
    assert "shown in the colours of sRGB; files keep the ICC profile" in known["notes"]
    place, best = f"pictures/{known['id']}", {"dials": {"quality": 1}}

    def middle(answer: Any) -> Any:
        image = Image.open(io.BytesIO(answer.content))
        return image.info, np.asarray(image.convert("RGB"))[24, 32].astype(int)

    ours = facts(lines(client, f"{place}/code", best))["made"]
    theirs = facts(lines(client, f"{place}/compare", {"codec": "webp", "bytes": 9000}))["made"]
    for answer in (
        client.get(f"{place}/original"),
        client.post(f"{place}/preview", json=best),
        client.get(f"{place}/made/{ours}/shown"),
        client.get(f"{place}/made/{theirs}/shown"),
    ):
        assert abs(middle(answer)[1] - wanted).max() <= 8
    info, saved = middle(client.get(f"{place}/made/{ours}/png"))
    assert info["icc_profile"] == profile and abs(saved - stored).max() <= 8


def test_a_profile_that_cannot_be_used_is_told(client: TestClient) -> None:
    file = io.BytesIO()
    picture(1).save(file, "PNG", icc_profile=bytes(16) + b"RGB " + bytes(120))
    known = add(client, file.getvalue())
    assert "shown without its ICC profile, which cannot be used" in known["notes"]
    shown = client.get(f"pictures/{known['id']}/original").content
    assert (np.asarray(Image.open(io.BytesIO(shown))) == np.asarray(picture(1))).all()


def test_a_grey_picture_in_a_style_has_no_profile_for_grey(client: TestClient) -> None:
    pytest.importorskip("torch")
    file = io.BytesIO()
    picture(1).convert("L").save(file, "PNG", icc_profile=display_p3(grey=True), dpi=(72, 72))
    place = f"pictures/{add(client, file.getvalue())['id']}/styles"
    saved = Image.open(io.BytesIO(client.get(f"{place}/mosaic/png").content))
    assert saved.mode == "RGB" and "icc_profile" not in saved.info and "dpi" in saved.info


def test_grey_and_transparent_pictures(client: TestClient) -> None:
    for mode in ("L", "LA", "RGBA", "P", "1"):
        file = io.BytesIO()
        picture(2).convert(mode).save(file, "PNG")
        place = f"pictures/{add(client, file.getvalue())['id']}"
        answer = client.post(f"{place}/preview", json=PREVIEW)
        assert Image.open(io.BytesIO(answer.content)).size == (72, 56)
        assert "error" not in facts(lines(client, f"{place}/code", PREVIEW))


def test_every_dial_of_the_weights_is_offered(codec: Codec) -> None:
    dials = codec.dials
    two = dataclasses.replace(dials.dials[0], name="tune", default=0.25)
    wide = dataclasses.replace(dials, dials=(*dials.dials, two))

    class Other:
        def __getattr__(self, name: str) -> Any:
            return wide if name == "dials" else getattr(codec, name)

    model = Desk(Other()).model()  # type: ignore[arg-type]
    assert model["dials"] == [
        {"name": "quality", "default": 0.5},
        {"name": "tune", "default": 0.25},
    ]


def test_who_goes_away_is_not_worked_for() -> None:
    """Work ends at its next step when nobody listens, and the lane is free for the next."""

    def work(tell: Any) -> None:
        while True:
            tell({"progress": 0})

    async def leave() -> str:
        lane = Lane()
        told = lane.lines(work)
        assert await anext(told) == b'{"progress": 0}\n'
        waiting = asyncio.create_task(lane.run(lambda: "next"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await told.aclose()
        return await asyncio.wait_for(waiting, 20)

    assert asyncio.run(leave()) == "next"


def test_an_unforeseen_error_ends_one_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"pictures/{add(client, small())['id']}"
    with monkeypatch.context() as patch:
        patch.setattr(work, "_tell_of", lambda *_, **__: 1 / 0)
        assert lines(client, f"{place}/code", PREVIEW)[-1]["error"].startswith("ZeroDivisionError")
    assert facts(lines(client, f"{place}/code", PREVIEW))["bytes"] > 0


def test_a_large_picture_has_no_preview() -> None:
    codec = Codec(GOLDEN / "tiny.safetensors", "cpu")
    desk = Desk(codec)
    file = io.BytesIO()
    Image.new("L", (2000, PREVIEW_PIXELS // 2000 + 1)).save(file, "PNG")
    place, _ = desk.add(file.getvalue(), "large.png")
    with TestClient(make_app(desk, TOKEN, PORT), base_url=f"{HERE}/{TOKEN}/") as client:
        answer = client.post(f"pictures/{place}/preview", json=PREVIEW)
    assert (answer.status_code, answer.json()["error"]) == (400, "too large for a preview")
