"""Basic authentication against bcrypt hashes, at a price that nobody else pays."""

import base64
import binascii
import hashlib
import secrets
import threading
from collections.abc import Mapping

import bcrypt

from celeryscope.errors import CeleryscopeError

MAX_CHECKS = 4  # passwords that are checked, or wait for it; what was verified before does not wait
MAX_PASSWORD_BYTES = 72  # what bcrypt looks at


class TooManyChecks(CeleryscopeError):
    """Too many passwords are waiting to be checked."""


class Users:
    """Who may come in, by name, with bcrypt hashes.

    A check costs what bcrypt was made to cost, for an unknown user as for a known one. It is done one at a time, and
    once for a right password: after that a keyed digest is remembered, which says nothing without its key.
    """

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self.hashes = dict(hashes)
        self._key = secrets.token_bytes(32)
        self._verified: set[bytes] = set()  # few: a hash fits one password, and it repeated after NULs
        self._checks = threading.Semaphore(MAX_CHECKS)
        self._turn = threading.Lock()  # the check leaves the interpreter to others, not the core

    def admit(self, authorization: str) -> bool:
        """Whether an Authorization header names a user and the password. Raises TooManyChecks."""
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        name, password = credentials
        digest = self._digest(name, password)
        if digest in self._verified:
            return True
        if not self._checks.acquire(blocking=False):
            raise TooManyChecks
        try:
            with self._turn:
                if digest in self._verified:
                    return True
                known = self.hashes.get(name)
                # Somebody's hash, the same every time: another for each request would cost another time.
                matches = bcrypt.checkpw(password, known or self._anybodys(name))
                if known is None or not matches:
                    return False
                self._verified.add(digest)
                return True
        finally:
            self._checks.release()

    def _anybodys(self, name: str) -> bytes:
        hashes = list(self.hashes.values())
        return hashes[int.from_bytes(self._digest(name, b"")[:8], "big") % len(hashes)]

    def _digest(self, name: str, password: bytes) -> bytes:
        user = name.encode(errors="surrogateescape")
        return hashlib.blake2b(b"%d:%b%b" % (len(user), user, password), key=self._key).digest()


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    user, colon, password = decoded.partition(b":")
    return (user.decode(errors="surrogateescape"), password[:MAX_PASSWORD_BYTES]) if colon else None
