"""`python -m celeryscope.healthcheck [ready]`: ask the exporter of this environment how it is; exit code 0 or 1.

For containers, whose images have no curl. It asks where CELERYSCOPE_LISTEN_ADDRESS or the file of CELERYSCOPE_CONFIG
says that the exporter listens, over TLS where plain HTTP gets no answer. Whoever asks for a password or a certificate
before it answers is there too: that counts as healthy.
"""

import contextlib
import http.client
import ssl
import sys
from collections.abc import Sequence
from http import HTTPStatus

from celeryscope import config
from celeryscope.errors import ConfigError
from celeryscope.values import Address

TIMEOUT = 2.0  # seconds for each of two attempts
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not listened on
PATHS = {"healthy": "/-/healthy", "ready": "/-/ready"}
# Of a server that speaks, and tells nothing to a stranger.
GUARDED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
# Alerts of a TLS server that wants to see a certificate: TLS 1.3 sends the first, older ones the second.
WANTS_CERTIFICATE = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")


def ask(address: Address, path: str) -> str | None:
    """Return what is wrong with what listens there; None for nothing."""
    host = LOOPBACK.get(address.host, address.host)
    status, trouble = None, None
    try:
        with contextlib.closing(http.client.HTTPConnection(host, address.port, timeout=TIMEOUT)) as plain:
            status, trouble = _answered(plain, path)
    except ConnectionRefusedError as error:
        return f"nobody listens on {address}: {error.strerror}"
    except (http.client.HTTPException, OSError):
        status = None
    # A server that wants TLS says so to plain HTTP by status 400, as Go's do, by an alert, or not at all.
    return _over_tls(host, address, path) if status in {None, HTTPStatus.BAD_REQUEST} else trouble


def _over_tls(host: str, address: Address, path: str) -> str | None:
    # Whose certificate it is does not matter to one who asks itself, and names differ on the loopback interface.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        connection = http.client.HTTPSConnection(host, address.port, timeout=TIMEOUT, context=context)
        with contextlib.closing(connection) as encrypted:
            encrypted.connect()
            # TLS 1.3 refuses a stranger after the handshake, and its alert may be lost when it hangs up.
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return _answered(encrypted, path)[1]
            return None
    except ssl.SSLError as error:
        return None if error.reason in WANTS_CERTIFICATE else f"{address} speaks neither HTTP nor TLS: {error.reason}"
    except (http.client.HTTPException, OSError) as error:
        return f"{address} does not answer: {error}"


def _answered(connection: http.client.HTTPConnection, path: str) -> tuple[int | None, str | None]:
    """Return the status, and what is wrong with it."""
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status == HTTPStatus.OK or answer.status in GUARDED:
        return answer.status, None
    text = answer.read(200).decode(errors="replace").strip()
    return answer.status, f"{path} is answered with {answer.status}: {text}"


def main(arguments: Sequence[str]) -> int:
    """Ask, say on stderr what is wrong, and return the exit code."""
    wanted = arguments[0] if arguments else "healthy"
    if wanted not in PATHS or len(arguments) > 1:
        trouble: str | None = f"expected {' or '.join(PATHS)}, or nothing"
    else:
        try:
            trouble = ask(config.listen_address(), PATHS[wanted])
        except ConfigError as error:
            trouble = str(error)
    if trouble is not None:
        sys.stderr.write(f"celeryscope.healthcheck: {trouble}\n")
    return 0 if trouble is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
