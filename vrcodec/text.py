"""Text from outside (names, metadata, error messages) made fit for terminals, tables and logs."""

from __future__ import annotations

import re

_URL = re.compile(r"(?<![\w.+-])([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]+)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
HIDDEN = "***"
"""What stands for user names, passwords and queries."""


def printable(text: str) -> str:
    """Text in one line for a terminal: what is no character to look at becomes an escape.

    That goes for control characters (C0 and C1), line ends, marks that change the direction of
    writing, and bytes of names that are not UTF-8.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    r"""What stands for a character that cannot be shown: a byte that is not UTF-8 as \xff."""
    if "\udc80" <= char <= "\udcff":
        return rf"\x{ord(char) - 0xDC00:02x}"
    return ascii(char)[1:-1]


def masked_url(url: str) -> str:
    """A URL without user name, password, query and fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    query = rest[len(place) :][:1]
    host, slash, path = place.partition("/")
    if "@" in host:
        host = f"{HIDDEN}@{host.rpartition('@')[2]}"
    return scheme + separator + host + slash + path + (query and query + HIDDEN)


def masked(text: str) -> str:
    """Text in which all URLs are `masked_url`."""
    return _URL.sub(lambda found: masked_url(found[0]), text)


def cell(value: object) -> object:
    """A value for a table in CSV: in one line, and nothing that a spreadsheet would run.

    Control characters, and bytes that are not UTF-8, become escapes; text that begins like a
    formula gets a ' before it.
    """
    if not isinstance(value, str):
        return value
    quote = "'" if value.startswith(_FORMULA) else ""
    return quote + _CONTROL.sub(lambda found: _escape(found[0]), value)
