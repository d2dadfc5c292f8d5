"""The one list of picture formats: names, what is read, what is written, what a file can hold.

Nothing is opened that does not stand here. No Pillow, so that a command line starts fast.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of picture file.

    Attributes:
        name: in lower case, as `--format` takes it.
        plugin: Pillow's name of it.
        suffixes: of its files; the first is what a new one gets.
        written: suffixes that ask for this format when a picture is written; none: only read.
        magic: byte strings that its files begin with, `?` for any byte; none: it has no mark.
        package: what has to be installed beside Pillow to read it.
        alpha, icc, exif, xmp, dpi: what a written file can hold.
        grey: it has pictures without colour; others hold grey as RGB.
        longest_side: pixels that a written picture has at most on a side.
    """

    name: str
    plugin: str
    suffixes: tuple[str, ...]
    written: tuple[str, ...] = ()
    magic: tuple[bytes, ...] = ()
    package: str = ""
    alpha: bool = False
    icc: bool = False
    exif: bool = False
    xmp: bool = False
    dpi: bool = False
    grey: bool = True
    longest_side: int = 1 << 31

    def begins(self, head: bytes) -> bool:
        """Whether a file that begins like this, 16 bytes or more, says that it is one."""
        return any(_matches(head, mark) for mark in self.magic)


_BOXES = b"????ftyp"
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM_MAGIC = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")

KNOWN = (
    Format(
        "png",
        "PNG",
        (".png", ".apng"),
        (".png",),
        (b"\x89PNG\r\n\x1a\n",),
        alpha=True,
        icc=True,
        exif=True,
        xmp=True,
        dpi=True,
    ),
    Format(
        "jpeg",
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        (".jpg", ".jpeg"),
        (b"\xff\xd8\xff",),
        icc=True,
        exif=True,
        xmp=True,
        dpi=True,
        longest_side=65500,
    ),
    Format(
        "webp",
        "WEBP",
        (".webp",),
        (".webp",),
        (b"RIFF????WEBP",),
        alpha=True,
        icc=True,
        exif=True,
        xmp=True,
        grey=False,
        longest_side=16383,
    ),
    Format(
        "tiff",
        "TIFF",
        (".tif", ".tiff"),
        (".tif", ".tiff"),
        _TIFF_MAGIC,
        alpha=True,
        icc=True,
        exif=True,
        xmp=True,
        dpi=True,
    ),
    Format(
        "avif",
        "AVIF",
        (".avif", ".avifs"),
        (".avif",),
        tuple(_BOXES + brand for brand in (b"avif", b"avis", b"mif1", b"msf1")),
        alpha=True,
        icc=True,
        exif=True,
        xmp=True,
        longest_side=65536,
    ),
    Format("bmp", "BMP", (".bmp", ".dib"), (".bmp",), (b"BM",), dpi=True),
    Format(
        "ppm",
        "PPM",
        (".ppm", ".pgm", ".pnm", ".pbm", ".pfm"),
        (".ppm", ".pgm", ".pnm"),
        _PNM_MAGIC,
    ),
    Format("gif", "GIF", (".gif",), magic=(b"GIF87a", b"GIF89a")),
    Format(
        "jpeg2000",
        "JPEG2000",
        (".jp2", ".j2k", ".j2c", ".jpf", ".jpx"),
        magic=(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ),
    Format("qoi", "QOI", (".qoi",), magic=(b"qoif",)),
    Format("sgi", "SGI", (".sgi",), magic=(b"\x01\xda",)),
    Format("psd", "PSD", (".psd",), magic=(b"8BPS",)),
    Format("sun", "SUN", (".ras",), magic=(b"\x59\xa6\x6a\x95",)),
    Format("xpm", "XPM", (".xpm",), magic=(b"/* XPM */",)),
    Format("xbm", "XBM", (".xbm",), magic=(b"#define", b"\n#define", b"/*")),
    Format("pcx", "PCX", (".pcx",), magic=tuple(bytes([10, i]) for i in (0, 2, 3, 5))),
    Format(
        "heic",
        "HEIF",
        (".heic", ".heif", ".hif"),
        magic=tuple(_BOXES + brand for brand in (b"heic", b"heix", b"mif1", b"msf1")),
        package="pillow-heif",
    ),
    Format(
        "jxl",
        "JXL",
        (".jxl",),
        magic=(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
        package="pillow-jxl-plugin",
    ),
    Format("tga", "TGA", (".tga",)),
)
"""Formats in the order in which they are tried; TGA comes last, its files have no mark."""

REFUSED = (
    ("a .vrc file, coded already", (b"VRC",)),
    ("PostScript, a program and not a picture", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    (
        "an icon file (ICO), which holds other pictures",
        tuple(b"\0\0\x01\0" + bytes([count, 0]) for count in range(1, 63)),
    ),
    (
        "a cursor file (CUR), which holds other pictures",
        tuple(b"\0\0\x02\0" + bytes([count, 0]) for count in range(1, 63)),
    ),
    ("an icon file (ICNS), which holds other pictures", (b"icns",)),
    (
        "an IPTC file, which holds another picture",
        (b"\x1c\x03", b"\x1c\x01\0", b"\x1c\x01\x5a", b"\x1c\x02"),
    ),
    ("a Windows metafile, a drawing", (b"\xd7\xcd\xc6\x9a", b"\x01\0\0\0????????", b"\x01\0\t\0")),
    ("a raw photograph (CR3)", (_BOXES + b"crx ",)),
    ("a raw photograph (RAF)", (b"FUJIFILMCCD-RAW",)),
    ("a raw photograph (ORF)", (b"IIRO", b"IIRS", b"MMOR")),
    ("a raw photograph (RW2)", (b"IIU\0",)),
    ("a raw photograph (MRW)", (b"\0MRM",)),
    ("a raw photograph (X3F)", (b"FOVb",)),
    ("a PDF document", (b"%PDF",)),
    ("an SVG drawing", (b"<svg", b"<?xml")),
    ("a JPEG XR picture", (b"II\xbc",)),
    ("an OpenEXR picture", (b"v/1\x01",)),
    ("a Radiance picture (HDR)", (b"#?RADIANCE", b"#?RGBE")),
    ("a PAM picture (P7)", (b"P7\n",)),
    ("a colour PFM picture (PF)", (b"PF\n",)),
    ("a FITS picture", (b"SIMPLE",)),
    ("a DDS texture", (b"DDS ",)),
    ("a large Photoshop file (PSB)", (b"8BPS\0\x02",)),
    ("a video", (_BOXES + b"isom", _BOXES + b"mp4", _BOXES + b"qt  ", b"\0\0\x01\xb3")),
)
"""What is named where it is refused: in words, and how such files begin."""

WRITTEN = {format.name: format for format in KNOWN if format.written}
"""Formats that a picture can be written in, by name."""

WRITTEN_SUFFIXES = MappingProxyType(
    {suffix: format.name for format in WRITTEN.values() for suffix in format.written}
)
"""Which format a file's name asks for; a format's first suffix is its own."""

READ_SUFFIXES = frozenset(suffix for format in KNOWN for suffix in format.suffixes)
"""Names that end in one of these are taken for pictures."""

FORMATS = tuple(WRITTEN)
"""Names of the formats that `save_picture` writes."""


def by_head(head: bytes) -> list[Format]:
    """The formats that a file beginning like this may be of, the likeliest first."""
    return [format for format in KNOWN if not format.magic or format.begins(head)]


def refusal(head: bytes) -> str:
    """In words, what a file beginning like this is that is not opened; empty if unknown."""
    for words, magic in REFUSED:
        if any(_matches(head, mark) for mark in magic):
            return words
    return ""


def _matches(head: bytes, mark: bytes) -> bool:
    return len(head) >= len(mark) and all(
        wanted == 0x3F or byte == wanted for byte, wanted in zip(head, mark, strict=False)
    )
