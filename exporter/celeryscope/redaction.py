"""Masking of credentials in any text that leaves the process: log lines, errors, pages.

Two nets, since either alone has holes: whatever looks like a URL loses its password, and every secret that
was registered is replaced wherever it stands. Both rather mask too much than too little.
"""

import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
SHORTEST_LITERAL = 4  # characters: a shorter secret would mask half of every sentence; URLs are masked anyway
SHORTEST_ANYWHERE = 8  # characters: a secret from 4 to 7 is masked only where it is not part of a longer word

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]{0,30}://"  # bounded, so that a long text takes linear time
# Up to the last @ of what hangs together, because a password that is not percent-encoded may hold @, / and ?.
_PASSWORD = re.compile(rf"({_SCHEME}(?:(?!{_SCHEME})[^\s:])*:)((?:(?!{_SCHEME})\S)*)(?=@)")
_PARAMETER = re.compile(
    r"(?i)([?&;/](?:\w*password|passwd|\w*secret|\w*token|accountkey|sharedaccess\w+|sig)=)[^&;#\s\"']+"
)
_SECRET_KEY = re.compile(r"(?i)passw(?:or)?d|passphrase|secret|token")


class Redactor:
    """Registered secrets, and their masking."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._literals: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> None:
        """Mask this text from now on, also percent-encoded, decoded, and as Python shows it in a repr."""
        literals = set()
        for text in (secret, unquote(secret)):
            literals |= {text, quote(text), quote(text, safe=""), quote_plus(text), repr(text)[1:-1]}
        literals = {literal for literal in literals if len(literal) >= SHORTEST_LITERAL}
        with self._lock:
            if literals <= self._literals:
                return
            self._literals |= literals
            longest_first = sorted(self._literals, key=len, reverse=True)
            self._pattern = re.compile("|".join(_literal_pattern(literal) for literal in longest_first))

    def register_url(self, url: str) -> None:
        """Mask the passwords of a URL, or of a list of URLs, from now on."""
        for part in (url, *url.split(";")):
            for match in _PASSWORD.finditer(part if "://" in part else f"url://{part}"):
                self.register(match[2])

    def register_options(self, options: Mapping[Any, object]) -> None:
        """Mask what stands under password-like keys of options, at any depth, from now on."""
        for key, value in options.items():
            if isinstance(value, Mapping):
                self.register_options(value)
            elif isinstance(value, str) and _SECRET_KEY.search(str(key)):
                self.register(value)

    def redact(self, text: str) -> str:
        """Return the text without credentials."""
        if "://" in text:
            text = _PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1{MASK}", text))
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _literal_pattern(literal: str) -> str:
    pattern = re.escape(literal)
    return pattern if len(literal) >= SHORTEST_ANYWHERE else rf"(?<!\w){pattern}(?!\w)"


_process = Redactor()  # one for the process, as logging is
register = _process.register
register_url = _process.register_url
register_options = _process.register_options
redact = _process.redact
