"""Where the exporter listens: read, checked before anything is started, and turned into URLs."""

import errno
import socket
from dataclasses import dataclass

from celeryscope.errors import CeleryscopeError

DEFAULT = "127.0.0.1:9808"
LARGEST_PORT = 65535
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not listened on


class UnusableAddress(CeleryscopeError):
    """The exporter could not listen there: says why, and which option to use."""


@dataclass(frozen=True)
class Address:
    """A host, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> "Address":
        """Where to ask: an address that stands for every interface is none to connect to."""
        return Address(EVERY_INTERFACE.get(self.host, self.host), self.port)

    @property
    def url(self) -> str:
        """The root of what is served there."""
        return f"http://{self.reachable}/"


def parse(text: str) -> Address:
    """Read HOST:PORT or [IPv6]:PORT; port 0 is any free one. Raises UnusableAddress."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > LARGEST_PORT:
        raise UnusableAddress(f"--listen-address {text}: expected HOST:PORT, for instance {DEFAULT}")
    return Address(host, int(port) or free_port())


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(address: Address) -> None:
    """Raise UnusableAddress where nobody can listen."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of an earlier run that are still closing are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # On Linux two sockets may bind with that option, but only one may listen.
            probe.listen(1)
    except UnicodeError:  # of a name that DNS cannot have: a..b, or a part of more than 63 characters
        raise UnusableAddress(f"--listen-address {address}: {address.host} is no name of a host") from None
    except OSError as error:
        other = str(Address(address.host, address.port + 1)) if error.errno == errno.EADDRINUSE else DEFAULT
        raise UnusableAddress(
            f"the exporter cannot listen on {address}: {error.strerror}. Choose another, for example\n"
            f"  celeryscope demo --listen-address {other}"
        ) from error
