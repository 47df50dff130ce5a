"""The web configuration file of Prometheus and its exporters: TLS, passwords and headers of the web server.

https://prometheus.io/docs/prometheus/latest/configuration/https/ is its reference. What the standard library's TLS
cannot do is an error here: of what guards a door nothing may be ignored.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from celeryscope.errors import ConfigError
from celeryscope.settings import parse, shown, suggestion
from celeryscope.values import Kind
from celeryscope.yamlfile import read_keys

T = TypeVar("T")
Kinds = Mapping[str, Kind[Any]]

MAX_BCRYPT_COST = 16  # seconds of work: each step doubles it, and a scrape waits 10 s
TLS, HTTP, USERS = "tls_server_config", "http_server_config", "basic_auth_users"

# 16 bytes of salt and 23 of hash: bits that the last character of each has to spare are 0, else no check succeeds.
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]")

# As Go calls them, which the file's reference goes by; and as OpenSSL does.
CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{cipher}": f"ECDHE-{key}-{name}"
    for cipher, name in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
    for key in ("ECDSA", "RSA")
}
CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = "Python's TLS takes no certificate of a client that it does not verify"
_OLD = "it is not safe, and OpenSSL no longer speaks it"
_FIXED = "Python's TLS cannot choose among the suites of TLS 1.3, all of which are safe: leave them out"
_INLINE = ("cert", "key", "client_ca")


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """How TLS is spoken. Names are OpenSSL's."""

    cert_file: Path
    key_file: Path
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_file: Path | None = None
    client_allowed_sans: frozenset[str] | None = None  # addresses as `normal_san` has them
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()  # of TLS 1.2; empty: the library's
    prefers_own_ciphers: bool = True
    curve: str | None = None


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """What the file says. Users are by name, with their bcrypt hashes."""

    tls: TlsSettings | None = None
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()


def normal_san(name: str) -> str:
    """Return a name of a certificate in the one spelling by which names are compared: that matters for addresses."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def read(file: Path) -> WebConfig:
    """Return what the file says. Raises `ConfigError` that names file and key."""
    document = read_keys(file, "the web configuration file")
    if not document:
        raise ConfigError(f"the web configuration file {file} is empty: give {TLS}, {USERS} or {HTTP}")
    if "rate_limit" in document:
        raise ConfigError(
            f"rate_limit in {file} is not supported: the server bounds by itself how many requests it answers at once"
        )
    _check_keys(document, (TLS, HTTP, USERS), "", file)
    users = _section(document, USERS, file)
    http = _values(_section(document, HTTP, file), HTTP, HTTP_KEYS, file)
    headers = _values(http.get("headers", {}), f"{HTTP}.headers", HEADERS, file)
    return WebConfig(
        tls=_tls(document, file) if TLS in document else None,
        users=MappingProxyType({name: _user(name, users[name], file) for name in users}),
        headers=tuple(headers.items()),
    )


def _section(document: Mapping[Any, Any], name: str, file: Path) -> Mapping[Any, Any]:
    section = document.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} in {file} must hold keys and values")
    return section


def _check_keys(
    section: Mapping[Any, Any], known: Mapping[str, object] | tuple[str, ...], path: str, file: Path
) -> None:
    for key in section:
        if key not in known:
            hint = suggestion(str(key), known) or f"; known are {', '.join(known)}"
            raise ConfigError(f"unknown key {path}{_on_one_line(key)} in {file}{hint}")


def _on_one_line(key: object) -> str:
    return key if isinstance(key, str) and key.isprintable() else shown(key)


def _values(section: Mapping[Any, Any], name: str, kinds: Kinds, file: Path) -> dict[str, Any]:
    """Return the values of a section; what is null or an empty text is as good as absent there."""
    _check_keys(section, kinds, f"{name}.", file)
    given = {key: value for key, value in section.items() if value is not None and value != ""}
    return {
        key: parse(f"{name}.{key}", kinds[key], value, str(file), secret=kinds[key] is FILE)
        for key, value in given.items()
    }


def _user(name: object, hashed: object, file: Path) -> bytes:
    if not isinstance(name, str):
        raise ConfigError(f"a name in {USERS} in {file} is {shown(name)}, not a text: put it in quotes")
    if not name or ":" in name:
        raise ConfigError(
            f"a name in {USERS} in {file} is {shown(name)}: HTTP allows none that is empty or holds a colon"
        )
    return parse(f"{USERS}.{_on_one_line(name)}", BCRYPT, hashed, str(file), secret=True)


def _tls(document: Mapping[Any, Any], file: Path) -> TlsSettings:
    section = _section(document, TLS, file)
    for key in _INLINE:
        if key in section:
            raise ConfigError(
                f"{TLS}.{key} in {file} is not supported: Python's TLS reads keys and certificates from files: "
                f"use {key}_file"
            )
    given = _values(section, TLS, TLS_KEYS, file)
    for key in ("cert_file", "key_file"):
        if key not in given:
            raise ConfigError(f"{TLS} in {file} lacks {key}")
    for key in ("cert_file", "key_file", "client_ca_file"):
        if key in given:
            given[key] = file.parent / given[key]
    (curve,) = given.pop("curve_preferences", (None,))
    tls = TlsSettings(
        client_auth=given.pop("client_auth_type", ssl.CERT_NONE),
        ciphers=given.pop("cipher_suites", ()),
        prefers_own_ciphers=given.pop("prefer_server_cipher_suites", True),
        curve=curve,
        **given,
    )
    if tls.min_version > tls.max_version:
        raise ConfigError(f"{TLS}.min_version in {file} is above max_version")
    if tls.client_auth is ssl.CERT_NONE and tls.client_ca_file:
        raise ConfigError(f"{TLS}.client_ca_file in {file} is for nothing: client_auth_type asks for no certificate")
    if tls.client_auth is not ssl.CERT_NONE and not tls.client_ca_file:
        raise ConfigError(f"{TLS}.client_auth_type in {file} lacks a client_ca_file to verify certificates with")
    if tls.client_allowed_sans is not None and tls.client_auth is not ssl.CERT_REQUIRED:
        raise ConfigError(
            f"{TLS}.client_allowed_sans in {file} takes client_auth_type: RequireAndVerifyClientCert; "
            "otherwise a client without a certificate comes in"
        )
    return tls


def _word(words: Mapping[str, T], refused: Mapping[str, str] = MappingProxyType({})) -> Kind[T]:
    """Return the kind of value that is one of these words; some others are refused for a reason."""

    def parse_word(value: object) -> T:
        if isinstance(value, str) and value in words:
            return words[value]
        raise ValueError(refused.get(str(value), ""))

    return Kind(parse_word, f"one of {', '.join(words)}", "WORD")


def _list(item: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def parse_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError
        return tuple(item(part) for part in value)

    return parse_list


def _file(value: object) -> Path:
    # A key that stands where the path of its file belongs would be told in an error.
    if not isinstance(value, str) or not value.isprintable() or "-----BEGIN" in value:
        raise ValueError
    return Path(value)


def _san(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return normal_san(value)


def _cipher(value: object) -> str:
    if isinstance(value, str) and value in CIPHERS:
        return CIPHERS[value]
    tls13 = isinstance(value, str) and re.fullmatch(r"TLS_(AES|CHACHA20)_\w+", value)
    raise ValueError(_FIXED if tls13 else f"{shown(value)} is none of them")


def _curve(value: object) -> tuple[str]:
    names = _list(_word(CURVES).parse)(value)
    if len(names) > 1:
        raise ValueError("Python's TLS takes a single one")
    return (names[0],)


def _bcrypt(value: object) -> bytes:
    match = _BCRYPT.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) < 4:
        raise ValueError
    if int(match[1]) > MAX_BCRYPT_COST:
        raise ValueError(f"its cost is {int(match[1])}, and above {MAX_BCRYPT_COST} a scrape ends before the check")
    return match[0].encode()


def _line(value: object) -> str:
    # What headers may hold: a line break would begin the next one. `X-XSS-Protection: 0` is a number to YAML.
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
        raise ValueError
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


FILE = Kind(_file, "the path of a file", "FILE")
FLAG = Kind(_flag, "true or false", "")
LINE = Kind(_line, "one line of printable ASCII", "")
BCRYPT = Kind(_bcrypt, "a bcrypt hash, as `htpasswd -nBC 10 USER` makes it", "")
VERSION = _word(VERSIONS, {"TLS10": _OLD, "TLS11": _OLD})
TLS_KEYS: Kinds = MappingProxyType(
    {
        "cert_file": FILE,
        "key_file": FILE,
        "client_auth_type": _word(
            CLIENT_AUTH, dict.fromkeys(("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"), _UNVERIFIED)
        ),
        "client_ca_file": FILE,
        "client_allowed_sans": Kind(
            lambda value: frozenset(_list(_san)(value)), "a list of DNS names, addresses, e-mail addresses or URIs", ""
        ),
        "min_version": VERSION,
        "max_version": VERSION,
        "cipher_suites": Kind(_list(_cipher), f"a list of some of {', '.join(CIPHERS)}", ""),
        "prefer_server_cipher_suites": FLAG,
        "curve_preferences": Kind(_curve, f"a list of one of {', '.join(CURVES)}", ""),
    }
)
HEADERS: Kinds = MappingProxyType(
    {
        "Content-Security-Policy": LINE,
        "Strict-Transport-Security": LINE,
        "X-Content-Type-Options": _word({"nosniff": "nosniff"}),
        "X-Frame-Options": _word({"deny": "deny", "sameorigin": "sameorigin"}),
        "X-XSS-Protection": LINE,
    }
)


def _mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError
    return value


# HTTP/2 is an offer, of which a client makes no use with a server that speaks HTTP/1.1 only.
HTTP_KEYS: Kinds = MappingProxyType({"http2": FLAG, "headers": Kind(_mapping, "headers and their values", "")})
