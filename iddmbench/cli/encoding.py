"""Output on terminals and in files of any encoding: what a letter can't be written in is written in others."""

import codecs
import sys

ERRORS = "iddmbench.plain"
PLAIN = {
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\u2022": "*",
    "\u00b7": "-",
    "\u2026": "...",
    "\u00d7": "x",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2264": "<=",
    "\u2265": ">=",
    "\u00b1": "+-",
    "\u2191": "^",
    "\u2193": "v",
    "\u2192": "->",
    "\u2713": "ok",
    "\u00a0": " ",
}
"""Signs of the suite's own texts. Lines of tables and bars become "-", any other letter its escape (as \\xe9)."""


def any_encoding() -> None:
    """From here on, whatever is printed can be: latin-1, ASCII and all others."""
    codecs.register_error(ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=ERRORS)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_letter, text)), error.end


def _letter(c: str) -> str:
    if "\u2500" <= c <= "\u259f":
        return "|" if c in "\u2502\u2503\u2551" else "-"
    return PLAIN.get(c) or ascii(c)[1:-1]
