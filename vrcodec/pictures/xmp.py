"""XMP packets as text: orientation in any spelling, extended packets, promises that are not kept.

Packets are searched, not parsed and written again: what is not concerned stays byte for byte, and
no entity is ever expanded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

JPEG_MARK = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_MARK = b"http://ns.adobe.com/xmp/extension/\0"

_TIFF = "http://ns.adobe.com/tiff/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_PROMISES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": ("",),
    "http://ns.apple.com/HDRGainMap/1.0/": ("",),
    "http://ns.google.com/photos/1.0/container/": ("",),
    "http://ns.google.com/photos/1.0/camera/": ("MotionPhoto", "MicroVideo"),
}
"""Properties of other pictures or videos in the same file, by namespace: how the names of those
begin that are not kept."""
_MOST, _LONGEST, _MOST_DECLARED = 100, 200, 1_000_000
"""Prefixes or orientations in a packet; characters of a prefix, and of declarations that joining
adds."""
_MOST_ENDLESS = 10
_PREFIX = r"([\w.-]{1,200})"
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_USUAL = {_TIFF: "tiff", _NOTE: "xmpNote"}
_CODECS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


class XmpError(ValueError):
    """A packet that nobody writes but to make its reader work without end."""


def orientation(packet: bytes) -> int | None:
    """The orientation that a packet asks for, 1 to 8; None where it says nothing.

    Raises:
        XmpError: it says so too often, or by too many names.
    """
    for _, _, value in _orientations(_text(packet)[0]):
        found = _character_references(_CDATA.sub(r"\1", value)).strip()
        if re.fullmatch(r"[1-8]", found):
            return int(found)
    return None


def upright(packet: bytes) -> bytes:
    """The packet with orientation 1 wherever it has one. Raises XmpError."""
    text, codec = _text(packet)
    kept, at = [], 0
    for start, end, _ in sorted(_orientations(text)):
        if start >= at:
            kept += [text[at:start], "1"]
            at = end
    return _bytes("".join(kept) + text[at:], codec, packet)


def without_promises(packet: bytes) -> bytes:
    """The packet without what it says of a gain map or a video that is not kept.

    Raises:
        XmpError: it says that by too many names.
    """
    text, codec = _text(packet)
    promised: dict[str, tuple[str, ...]] = {}
    for namespace, begins in _PROMISES.items():
        for prefix in _prefixes(text, namespace):
            promised[prefix] = promised.get(prefix, ()) + begins
    if not promised:
        return packet
    text = _without_elements(text, promised)
    text = _without_attributes(text, lambda p, name: name.startswith(promised.get(p, ())))
    uses = (found[1] for found in re.finditer(rf"[<\s/]{_PREFIX}:", text))
    idle = promised.keys() - {prefix for prefix in uses if prefix in promised}
    text = _without_attributes(text, lambda p, name: p == "xmlns" and name in idle)
    return _bytes(text, codec, packet)


def joined(packet: bytes, pieces: Iterable[bytes]) -> bytes | None:
    """A packet with what continues it in other segments of a JPEG file.

    Args:
        packet: the main one.
        pieces: segments without EXTENSION_MARK: GUID (32), length (4), offset (4), data.

    Returns:
        One packet; None if the pieces are not whole, of another packet, or declare too much. XMP
        specification, part 3, section 1.1.3.1.
    """
    text, codec = _text(packet)
    try:
        found = _property(text, _NOTE, "HasExtendedXMP")
    except XmpError:
        return None
    if not found:
        return None
    whole = _assembled(found[2].strip().encode("utf-8", "replace"), pieces)
    if whole is None:
        return None
    text = text[: found.start()] + text[found.end() :]
    extension = _text(whole)[0]
    start = re.search(r"<([\w.-]+):RDF[^<>]*>", extension)
    stop = extension.rfind(f"</{start[1]}:RDF") if start else -1
    end = re.search(r"</[\w.-]+:RDF\s*>", text)
    if not start or stop < start.end() or not end:
        return None
    inner = extension[start.end() : stop]
    declared = dict(re.findall(r"\sxmlns:([\w.-]+)\s*=\s*(\"[^\"]*\"|'[^']*')", extension))
    tag = re.compile(rf"<{re.escape(start[1])}:Description\b[^<>]*")
    added = sum(len(prefix) + len(value) + 8 for prefix, value in declared.items())
    if added * len(tag.findall(inner)) > _MOST_DECLARED:
        return None
    body = tag.sub(lambda found: _declaring(found[0], declared), inner)
    return _bytes(text[: end.start()] + body + text[end.start() :], codec, packet)


def _assembled(identity: bytes, pieces: Iterable[bytes]) -> bytes | None:
    parts: dict[int, bytes] = {}
    size = 0
    for piece in pieces:
        if len(piece) > 40 and piece[:32] == identity:
            size = int.from_bytes(piece[32:36], "big")
            parts[int.from_bytes(piece[36:40], "big")] = piece[40:]
    whole = b"".join(parts[at] for at in sorted(parts))
    sound = len(whole) == size and hashlib.md5(whole, usedforsecurity=False).hexdigest()
    return whole if sound and sound.upper().encode() == identity.upper() else None


def _declaring(tag: str, declared: Mapping[str, str]) -> str:
    """A start tag (without its end) that declares the prefixes used in what it holds."""
    slash = "/" if tag.endswith("/") else ""
    own = set(re.findall(r"\sxmlns:([\w.-]+)\s*=", tag))
    new = "".join(
        f" xmlns:{prefix}={value}" for prefix, value in declared.items() if prefix not in own
    )
    return tag.removesuffix("/") + new + slash


def _orientations(text: str) -> list[tuple[int, int, str]]:
    """Where orientations are said, and the values: start, end, text. Raises XmpError."""
    if "Orientation" not in text:
        return []
    prefixes: set[str | None] = set(_prefixes(text, _TIFF))
    name = rf"{_PREFIX}:Orientation"
    element = name
    if re.search(rf"\sxmlns\s*=\s*[\"']{re.escape(_TIFF)}[\"']", text):
        element = rf"(?:{_PREFIX}:)?Orientation"
        prefixes.add(None)
    value = r"(\s*(?:&\#(?:[0-9]{1,7}|x[0-9a-fA-F]{1,6});|[0-9]|<!\[CDATA\[\s*[0-9]\s*\]\]>)\s*)"
    inner = r"[^<>]*(?<![\w.-])[\w.-]{1,99}:value"
    patterns = (
        rf"\s{name}\s*=\s*[\"']{value}(?=[\"'])",
        rf"<{element}(?:\s[^<>]*)?>(?:\s*<[\w.-]{{1,99}}:value(?:\s[^<>]*)?>)?{value}(?=</)",
        rf"<{element}\s{inner}\s*=\s*[\"']{value}(?=[\"'])",
    )
    found = []
    for pattern in patterns:
        for match in re.finditer(pattern, text):
            if match[1] not in prefixes:
                continue
            found.append((match.start(2), match.end(2), match[2]))
            if len(found) > _MOST:
                raise XmpError("orientations")
    return found


def _property(text: str, namespace: str, name: str) -> re.Match[str] | None:
    """A simple property, as an attribute or an element; its second group is the value."""
    names = "|".join(re.escape(prefix) for prefix in _prefixes(text, namespace))
    pattern = rf"\s(?:{names}):{name}\s*=\s*([\"'])([^\"']*)\1"
    element = rf"<((?:{names}):{name})\s*>([^<]*)</\1\s*>"
    return re.search(pattern, text) or re.search(element, text)


def _prefixes(text: str, namespace: str) -> list[str]:
    """The prefixes that stand for a namespace. Raises XmpError if they are too many."""
    declared = re.findall(rf"xmlns:([\w.-]+)\s*=\s*[\"']{re.escape(namespace)}[\"']", text)
    usual = [_USUAL[namespace]] if namespace in _USUAL else []
    found = list(dict.fromkeys([*declared, *usual]))
    if len(found) > _MOST or any(len(prefix) > _LONGEST for prefix in found):
        raise XmpError("prefixes")
    return found


def _without_elements(text: str, promised: Mapping[str, tuple[str, ...]]) -> str:
    """The text without elements of names that begin so, by prefix; in one pass over it.

    A prefix counts up to its first element without an end, and all do up to the tenth such.
    """
    kept, at, endless = [], 0, set[str]()
    for found in re.finditer(rf"<({_PREFIX}:([\w.-]+))(?=[\s/>])[^<>]*>", text):
        if found.start() < at or found[2] in endless:
            continue
        if not found[3].startswith(promised.get(found[2], ())):
            continue
        end = found.end()
        if not found[0].endswith("/>"):
            closing = f"</{found[1]}>"
            end = text.find(closing, end)
            if end < 0:
                endless.add(found[2])
                if len(endless) < _MOST_ENDLESS:
                    continue
                break
            end += len(closing)
        kept.append(text[at : found.start()])
        at = end
    return "".join(kept) + text[at:]


def _without_attributes(text: str, unwanted: Callable[[str, str], bool]) -> str:
    """The text without attributes of these prefixes and names, in one pass over it."""
    kept, at = [], 0
    for found in re.finditer(rf"\s{_PREFIX}:([\w.-]+)\s*=\s*([\"'])", text):
        if found.start() < at or not unwanted(found[1], found[2]):
            continue
        end = text.find(found[3], found.end()) + 1
        if end:
            kept.append(text[at : found.start()])
            at = end
    return "".join(kept) + text[at:]


def _character_references(value: str) -> str:
    return re.sub(
        r"&#(x?)([0-9a-fA-F]+);",
        lambda found: chr(min(int(found[2], 16 if found[1] else 10), 0x10FFFF)),
        value,
    )


def _text(packet: bytes) -> tuple[str, str]:
    """A packet as text and how it was encoded; bytes that are not text survive the way back."""
    head = packet.lstrip(b"\r\n\t ")[:4]
    codec = next((name for mark, name in _CODECS if head.startswith(mark)), "utf-8")
    return packet.decode(codec, "surrogateescape" if codec == "utf-8" else "replace"), codec


def _bytes(text: str, codec: str, packet: bytes) -> bytes:
    if text == _text(packet)[0]:
        return packet
    return text.encode(codec, "surrogateescape" if codec == "utf-8" else "replace")
