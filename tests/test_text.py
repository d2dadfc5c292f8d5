"""Text from outside: escaped for terminals, masked in URLs, quoted in tables."""

from __future__ import annotations

import pytest

from vrcodec.text import cell, masked, masked_url, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe λ 図.png", "größe λ 図.png"),
        ("new\nline\r\t", "new\\nline\\r\\t"),
        ("\33[2J\a\x9b", "\\x1b[2J\\x07\\x9b"),
        ("caf\udce9.png", "caf\\xe9.png"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_what_is_no_character_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown == printable(shown)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a.png", "s3://bucket/a.png"),
        ("s3://key:secret@bucket/a@b.png", "s3://***@bucket/a@b.png"),
        ("http://u:p@q@host/a?token=x#y", "http://***@host/a?***"),
        ("https://host?sig=1", "https://host?***"),
        ("http://host/a#secret", "http://host/a#***"),
        ("out/a.png", "out/a.png"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert masked_url(url) == shown
    assert masked(f"404, url='{url}', gone") == f"404, url='{shown}', gone"


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("=1+cmd.png", "'=1+cmd.png"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\\tx"),
        ("\rx", "'\\rx"),
        ("a=b", "a=b"),
        ("a\nb", "a\\nb"),
        (-1.5, -1.5),
        (None, None),
    ],
)
def test_cells_are_no_formulas(value: object, quoted: object) -> None:
    assert cell(value) == quoted
