"""TLS of the standard library, as the web configuration file asks for it."""

import ssl
from collections.abc import Collection
from pathlib import Path
from typing import cast

from celeryscope.errors import ConfigError
from celeryscope.webconfig import TlsSettings, normal_san

HANDSHAKE = b"\x16"  # the first byte that a TLS client sends


def server_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return a context with certificate, key and CA as their files are now. Raises ConfigError that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = tls.min_version, tls.max_version
    context.set_alpn_protocols(["http/1.1"])
    # Without tickets nobody returns by one after its certificate has ended, or the CA was replaced.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if tls.prefers_own_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        if tls.ciphers:
            context.set_ciphers(":".join(tls.ciphers))
        if tls.curve is not None:
            context.set_ecdh_curve(tls.curve)
    except (ssl.SSLError, ValueError) as error:
        asked = ", ".join(filter(None, (*tls.ciphers, tls.curve)))
        raise ConfigError(f"this OpenSSL ({ssl.OPENSSL_VERSION}) does not offer {asked}: {_reason(error)}") from error
    _load_pair(context, tls.cert_file, tls.key_file)
    if tls.client_ca_file is not None:
        _load_certificates(context, tls.client_ca_file, "client_ca_file")
    context.verify_mode = tls.client_auth
    return context


def has_name(connection: ssl.SSLSocket, allowed: Collection[str]) -> bool:
    """Whether the certificate of the client has one of these subject alternative names."""
    certificate = connection.getpeercert() or {}
    names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    return any(normal_san(name) in allowed for _, name in names)


def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    def refuse() -> str:  # the library would ask at the terminal
        raise ConfigError(f"the key in key_file {key_file} is encrypted: it must not be")

    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert_file, "cert_file")
    _content(key_file, "key_file")
    try:
        context.load_cert_chain(cert_file, key_file, refuse)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            reason = f"is not that of the certificate in cert_file {cert_file}"
        elif error.reason and "KEY_TOO_SMALL" in error.reason:
            reason = f"or that of the certificate in cert_file {cert_file} is too small"
        else:
            reason = "is none that can be read: it must be PEM"
        raise ConfigError(f"the key in key_file {key_file} {reason}") from error
    except OSError as error:
        raise ConfigError(f"cert_file {cert_file} or key_file {key_file} cannot be read: {error.strerror}") from error


def _load_certificates(context: ssl.SSLContext, file: Path, key: str) -> None:
    text = _content(file, key).decode("ascii", "ignore")  # around certificates may stand whose they are, in any letters
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:  # ValueError: of an empty text
        raise ConfigError(f"{key} {file} holds no certificate that can be read: it must be PEM") from error


def _content(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key} {file} cannot be read: {error.strerror}") from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).lower().replace("_", " ")
