"""Optional sections: as small as they can be, and byte for byte what they were."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import linux_only
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms
from reference_decoder import InvalidFile, read_file

from vrcodec.bitstream.container import Extra, Header, Stream, describe, pack, unpack
from vrcodec.bitstream.extras import (
    MAX_EXPANDED,
    Coding,
    dictionary,
    expand,
    profiles,
    shrink,
)
from vrcodec.bitstream.reader import varint
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import CorruptError, FormatError, UnsupportedVersionError

HEADER = Header(16, 16, "0a1b2c3d4e5f6071", Conditioning((1 << 14,)))
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b'  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
    b"   <dc:title>A parrot</dc:title>\n"
    b"  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
)


def size_of(tag: Extra, body: bytes) -> int:
    """Bytes that an extra section costs, its entry in the list included."""
    plain = len(pack(Stream(HEADER, b"z", (b"y",), 0)))
    return len(pack(Stream(HEADER, b"z", (b"y",), 0, {tag: body}))) - plain


def stored_file(tag: int, coding: int, size: int | None, stored: bytes) -> bytes:
    """A file with one extra section, however it says that it is stored."""
    start = b"VRC\x28\x04" + bytes(8) + b"\x10\x10\x40\x00"
    entry = bytes([coding << 5 | tag]) + varint(len(stored))
    entry += b"" if size is None else varint(size)
    body = start + entry + b"\0\1\1\0\0" + stored + b"zy"
    return body + zlib.crc32(body).to_bytes(4, "big")


def deflated(body: bytes) -> bytes:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary())
    return machine.compress(body) + machine.flush()


def test_what_the_format_knows_never_changes() -> None:
    """These are part of files that people have: nothing may be replaced."""
    digests = [hashlib.sha256(part).hexdigest()[:16] for part in (dictionary(), *profiles())]
    assert digests == [
        "52e19cfda8649e36",
        "2b3aa1645779a9e6",
        "3f6d674174f3804e",
        "384b832de3412066",
    ]


@given(st.sampled_from(Extra), st.binary(max_size=500) | st.text(max_size=500).map(str.encode))
def test_every_section_comes_back(tag: Extra, body: bytes) -> None:
    coding, stored = shrink(tag, body)
    assert len(stored) <= len(body)
    assert expand(tag, coding, stored, len(body)) == body


@pytest.mark.parametrize("number", range(3))
def test_common_profiles_take_a_few_bytes(number: int) -> None:
    assert size_of(Extra.ICC, profiles()[number]) <= 5
    assert size_of(Extra.XMP, profiles()[number]) > 100


def test_profiles_made_at_any_time_are_small() -> None:
    """That of Little CMS, which is what Pillow writes, contains the date."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert len(profile) > 500
    assert size_of(Extra.ICC, profile) < 80


def test_metadata_is_stored_deflated_where_that_is_smaller() -> None:
    assert size_of(Extra.XMP, XMP) < len(XMP) / 3
    noise = hashlib.sha256(b"").digest()[:16]
    assert size_of(Extra.SOURCE, noise) == 20  # a byte of flags, the tag, the length, the end
    large = bytes(MAX_EXPANDED + 1)
    assert shrink(Extra.XMP, large) == (Coding.PLAIN, large)
    stream = Stream(HEADER, b"z", (b"y",), 0, {Extra.XMP: XMP, Extra.ICC: profiles()[0]})
    data = pack(stream)
    assert unpack(data) == stream
    assert read_file(data).extras == stream.extras
    bits = describe(data)["bits"]
    assert bits["icc"] == 8 and 0 < bits["xmp"] < 8 * len(XMP) / 3
    assert sum(bits.values()) == 8 * len(data)


def test_version_1_stores_sections_as_they_are() -> None:
    header = dataclasses.replace(HEADER, weights_id="0a1b2c", version=1)
    data = pack(Stream(header, b"z", (b"y",), 0, {Extra.XMP: XMP}))
    assert XMP in data and unpack(data).extras == {Extra.XMP: XMP}


GOOD = deflated(XMP)
SIZE = len(XMP)


def test_stored_file_is_a_file() -> None:
    assert unpack(stored_file(4, 1, SIZE, GOOD)).extras == {Extra.XMP: XMP}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (stored_file(4, 1, SIZE, GOOD[:-1]), CorruptError, "XMP does not expand to"),
        (stored_file(4, 1, SIZE, GOOD + b"\0"), CorruptError, "XMP does not expand to"),
        (stored_file(4, 1, SIZE, b""), CorruptError, "XMP does not expand to"),
        (stored_file(4, 1, SIZE, b"\xff" * 40), CorruptError, "XMP cannot be expanded"),
        (stored_file(4, 1, 5, GOOD), CorruptError, "XMP does not expand to 5 bytes"),
        (stored_file(4, 1, 0, GOOD), CorruptError, "XMP does not expand to 0 bytes"),
        (stored_file(4, 1, 16_383, GOOD), CorruptError, "XMP does not expand to 16,383"),
        (stored_file(3, 1, MAX_EXPANDED + 1, GOOD), CorruptError, "EXIF expands to 16,777,217"),
        (stored_file(4, 2, None, b"\0"), CorruptError, "XMP cannot be a listed one"),
        (stored_file(2, 2, None, b""), CorruptError, "ICC cannot be a listed one"),
        (stored_file(2, 2, None, b"\0\0"), CorruptError, "ICC cannot be a listed one"),
        (stored_file(2, 2, None, b"\3"), UnsupportedVersionError, "colour profile 3"),
        (stored_file(2, 2, None, b"\xff"), UnsupportedVersionError, "colour profile 255"),
        (stored_file(2, 3, None, b"\0"), CorruptError, "unknown section 98"),
    ],
)
def test_sections_that_are_not_what_they_say(
    data: bytes, error: type[FormatError], message: str
) -> None:
    with pytest.raises(error, match=message):
        unpack(data)
    with pytest.raises(InvalidFile):
        read_file(data)


BOMB = """
import resource, sys, zlib
sys.path.insert(0, sys.argv[1])
from test_extras import stored_file
from vrcodec.bitstream.container import unpack
from vrcodec.bitstream.extras import dictionary
from vrcodec.errors import CorruptError
machine = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=dictionary())
bomb = b"".join(machine.compress(bytes(1 << 20)) for _ in range(1024)) + machine.flush()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
for size in (1 << 30, 1 << 34, 16 << 20, 1000):
    try:
        unpack(stored_file(4, 1, size, bomb))
    except CorruptError as error:
        print(error)
"""


@linux_only
def test_a_bomb_of_a_gigabyte_is_refused_in_little_memory(
    vrcodec_environment: dict[str, str],
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", BOMB, str(Path(__file__).parent)],
        env=vrcodec_environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.splitlines() == [
        "section XMP expands to 1,073,741,824 bytes",
        "section XMP expands to 17,179,869,184 bytes",
        "section XMP does not expand to 16,777,216 bytes",
        "section XMP does not expand to 1,000 bytes",
    ], result.stderr
