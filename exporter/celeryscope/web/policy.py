"""Who is let in and how: what the web configuration file says, read again when it or a file that it names changes."""

import logging
import ssl
import threading
from dataclasses import dataclass
from math import inf
from pathlib import Path

from celeryscope import webconfig
from celeryscope.clock import Clock
from celeryscope.errors import ConfigError
from celeryscope.web.passwords import Users
from celeryscope.web.tls import server_context

LOOK_INTERVAL = 1.0  # seconds between two looks at the files

logger = logging.getLogger(__name__)

Version = tuple[int, int, int, int] | None  # inode, size, changes of content and of permissions; None: not there


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of clients, and told to them. The default asks nothing."""

    context: ssl.SSLContext | None = None
    allowed_names: frozenset[str] | None = None  # of client certificates
    users: Users | None = None
    headers: tuple[tuple[str, str], ...] = ()


OPEN = Policy()


class PolicyFile:
    """The policy of a web configuration file. Files that cannot be used leave the one before in force.

    What would open a door takes a restart: a server with TLS, client certificates, names of theirs or passwords keeps
    asking for them.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        """Read it. Raises ConfigError."""
        self._file = file
        self._clock = clock
        self._looking = threading.Lock()
        self._look_again = -inf
        self._told = ""
        self._versions: dict[Path, Version] = {}
        self._policy = self._read(None)

    def current(self) -> Policy:
        """Return the policy in force, after a look at the files where the last is a second old."""
        if self._clock.now().elapsed >= self._look_again and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._look_again = self._clock.now().elapsed + LOOK_INTERVAL
                self._looking.release()
        return self._policy

    def _look(self) -> None:
        if {file: _version(file) for file in self._versions} == self._versions:
            self._told = ""
            return
        try:
            self._policy = self._read(self._policy)
        except ConfigError as error:  # tried again at every look: the other half of a renewal may follow
            if str(error) != self._told:
                self._told = str(error)
                logger.error("%s; what was read before stays in force", error)
        else:
            self._told = ""
            logger.info("read %s and the files that it names again", self._file)

    def _read(self, before: Policy | None) -> Policy:
        versions = {self._file: _version(self._file)}  # as they are before they are read
        config = webconfig.read(self._file)
        if before is not None:
            _check_restart(before, config, self._file)
        tls, context, users = config.tls, None, None
        if tls is not None:
            files = (tls.cert_file, tls.key_file, tls.client_ca_file)
            versions |= {file: _version(file) for file in files if file is not None}
            context = server_context(tls)
        if config.users:
            users = before.users if before and before.users else None
            if users is None or users.hashes != config.users:
                users = Users(config.users)
        self._versions = versions
        return Policy(context, tls.client_allowed_sans if tls else None, users, config.headers)


def _check_restart(before: Policy, config: webconfig.WebConfig, file: Path) -> None:
    tls, change = config.tls, ""
    if (before.context is None) != (tls is None):
        change = f"{'lacks' if before.context else 'has'} {webconfig.TLS}"
    elif _requires_certificates(before) and tls and tls.client_auth is not ssl.CERT_REQUIRED:
        change = f"requires no certificate in {webconfig.TLS}.client_auth_type"
    elif before.allowed_names and tls and not tls.client_allowed_sans:
        change = f"lacks {webconfig.TLS}.client_allowed_sans"
    elif before.users and not config.users:
        change = f"names no user in {webconfig.USERS}"
    if change:
        raise ConfigError(f"{file} now {change}: that takes a restart")


def _requires_certificates(policy: Policy) -> bool:
    return policy.context is not None and policy.context.verify_mode is ssl.CERT_REQUIRED


def _version(file: Path) -> Version:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
