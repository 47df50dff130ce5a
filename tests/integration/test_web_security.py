"""The web server behind a web configuration file: TLS, client certificates and passwords, renewed while it serves."""

import base64
import http.client
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from celeryscope import webconfig
from celeryscope.clock import Moment
from celeryscope.errors import ConfigError
from celeryscope.http import Answer, Request, line
from celeryscope.pages import HEALTH_PATHS
from celeryscope.web import WebServer
from celeryscope.web.policy import LOOK_INTERVAL, PolicyFile
from support.processes import REPOSITORY, python, pythonpath, started
from support.programs import needs
from support.servers import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
PATIENCE = 10.0  # seconds until a test gives up on something that takes milliseconds
LARGE = bytes(range(256)) * 8192
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
VERIFIED = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
NAMED = VERIFIED + "  client_allowed_sans:\n  - prometheus.example.org\n"


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def users(**passwords: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {name}: {hashed(word)}\n" for name, word in passwords.items())


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ALICE = basic("alice", "open sesame")
ALICES = users(alice="open sesame")


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.elapsed = 1000.0

    def now(self) -> Moment:
        return Moment(1700000000.0, self.elapsed)


class Place:
    """A folder with a certificate and its key, what else the file names, and the servers that use them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.file = folder / "web.yml"
        self.ca = trustme.CA()
        self.clock = HandClock()
        self.seen: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _: line(HTTPStatus.OK, "up 1")
        self._stack = stack
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        self.renew()

    def renew(self, key: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        """Put another certificate and key into the files."""
        issued = self.ca.issue_cert(HOST, "localhost", key_type=key)
        issued.cert_chain_pems[0].write_to_path(self.file.parent / "server.pem")
        issued.private_key_pem.write_to_path(self.file.parent / "server.key")

    def serve(self, text: str) -> WebServer:
        self.file.write_text(text)

        def answer(request: Request) -> Answer:
            self.seen.append(request)
            return self.answer(request)

        policy = PolicyFile(self.file, self.clock).current
        server = WebServer(HOST, 0, answer, always=HEALTH_PATHS, policy=policy, clock=self.clock)
        server.start()
        self._stack.callback(server.stop)
        return server

    def look(self) -> None:
        """Let the next connection or request look at the files."""
        self.clock.elapsed += LOOK_INTERVAL

    def trust(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        return context


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("celeryscope.web.server.POLL_INTERVAL", 0.01)  # seconds: stopping takes as long
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def connect(server: WebServer, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if context is None:
        return http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
    return http.client.HTTPSConnection(HOST, server.port, timeout=PATIENCE, context=context)


def ask(
    server: WebServer,
    context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    path: str = "/metrics",
) -> http.client.HTTPResponse:
    """The answer's head; its body is read."""
    with closing(connect(server, context)) as connection:
        return ask_again(connection, headers, path)


def ask_again(
    connection: http.client.HTTPConnection, headers: Mapping[str, str] | None = None, path: str = "/metrics"
) -> http.client.HTTPResponse:
    connection.request("GET", path, headers=dict(headers or {}))
    response = connection.getresponse()
    response.read()
    return response


def serial(server: WebServer, context: ssl.SSLContext) -> str:
    with handshake(server, context) as client:
        certificate = client.getpeercert()
        assert certificate
        return str(certificate["serialNumber"])


def handshake(server: WebServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection((HOST, server.port), PATIENCE), server_hostname=HOST)


def is_refused(server: WebServer, context: ssl.SSLContext) -> bool:
    """Whether the server ends the connection in place of an answer; with TLS 1.3 a client learns it when it reads."""
    try:
        ask(server, context)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


class Checks:
    """Counts how often bcrypt works, and can hold it up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.free = threading.Event()
        self.free.set()
        check = bcrypt.checkpw

        def counted(password: bytes, hashed_password: bytes) -> bool:
            self.count += 1
            assert self.free.wait(PATIENCE)
            return check(password, hashed_password)

        monkeypatch.setattr(bcrypt, "checkpw", counted)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


class TestTls:
    def test_it_serves_https_and_says_so(self, place: Place) -> None:
        server = place.serve(TLS)
        assert server.url == f"https://{HOST}:{server.port}"
        assert ask(server, place.trust()).status == 200

    def test_plain_http_is_refused_in_words_that_a_plain_client_reads(self, place: Place) -> None:
        server = place.serve(TLS)
        with closing(connect(server, None)) as connection:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == 400
            assert response.read() == b"Client sent an HTTP request to an HTTPS server.\n"
        assert place.seen == []

    def test_a_large_answer_arrives_whole_and_the_connection_is_kept(self, place: Place) -> None:
        place.answer = lambda _: Answer(HTTPStatus.OK, LARGE)
        with closing(connect(place.serve(TLS), place.trust())) as connection:
            for _ in range(3):
                connection.request("GET", "/metrics")
                assert connection.getresponse().read() == LARGE

    @pytest.mark.parametrize("key", trustme.KeyType)
    def test_the_oldest_version_that_is_spoken_is_the_one_that_is_asked_for(
        self, place: Place, key: trustme.KeyType
    ) -> None:
        place.renew(key)
        old = place.trust()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        server = place.serve(TLS)
        assert not is_refused(server, old)
        place.file.write_text(TLS + "  min_version: TLS13\n")
        place.look()
        assert is_refused(server, old)
        assert not is_refused(server, place.trust())

    def test_suites_and_curves_are_those_that_are_asked_for(self, place: Place) -> None:
        suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        server = place.serve(
            TLS + f"  max_version: TLS12\n  cipher_suites: [{suite}]\n  curve_preferences: [CurveP384]\n"
        )
        with handshake(server, place.trust()) as client:
            assert client.cipher() == ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2", 256)
        other = place.trust()
        other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert is_refused(server, other)
        other = place.trust()
        other.set_ecdh_curve("prime256v1")
        assert is_refused(server, other)

    def test_headers_are_added_to_every_answer(self, place: Place) -> None:
        headers = "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff}}\n"
        server = place.serve(headers + users(alice="open sesame"))
        for response in (ask(server), ask(server, headers=ALICE), ask(server, path="/-/healthy")):
            assert response.getheader("X-Frame-Options") == "deny"
            assert response.msg.get_all("X-Content-Type-Options") == ["nosniff"]

    def test_who_never_ends_the_handshake_is_cut_and_delays_nobody(self, place: Place) -> None:
        server = place.serve(TLS)
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE)) for _ in range(3)
            ]
            silent[1].sendall(b"\x16\x03\x01")
            silent[2].sendall(b"\x16\x03\x01\x00\x05hello")
            wait_until(lambda: len(server._connections) >= 2, PATIENCE, "they have their places")
            assert ask(server, place.trust()).status == 200
            place.clock.elapsed += server.patience
            for client in silent[:2]:
                with suppress(ConnectionError):
                    assert client.recv(1) == b""
        wait_until(lambda: not server._connections, PATIENCE, "no connection is left")

    def test_it_stops_at_once_with_connections_open(self, place: Place) -> None:
        server = place.serve(TLS)
        with (
            handshake(server, place.trust()) as idle,
            socket.create_connection((HOST, server.port), PATIENCE) as silent,
        ):
            wait_until(lambda: len(server._connections) == 2, PATIENCE, "both are there")
            server.stop()
            for client in (idle, silent):
                with suppress(OSError):
                    assert client.recv(1) == b""

        def is_over() -> bool:
            return not any(thread.name == "celeryscope-web-connection" for thread in threading.enumerate())

        wait_until(is_over, PATIENCE, "no thread is left")


class TestClientCertificates:
    def test_none_is_refused_and_the_right_one_let_in(self, place: Place) -> None:
        server = place.serve(VERIFIED)
        assert is_refused(server, place.trust())
        assert ask(server, place.trust(place.ca.issue_cert("prometheus.example.org"))).status == 200
        assert len(place.seen) == 1

    def test_one_of_another_authority_is_refused(self, place: Place) -> None:
        server = place.serve(VERIFIED)
        assert is_refused(server, place.trust(trustme.CA().issue_cert("prometheus.example.org")))
        assert place.seen == []

    def test_where_it_may_be_left_out_a_wrong_one_is_still_refused(self, place: Place) -> None:
        server = place.serve(VERIFIED.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
        assert ask(server, place.trust()).status == 200
        assert is_refused(server, place.trust(trustme.CA().issue_cert("prometheus.example.org")))

    @pytest.mark.parametrize("name", ["prometheus.example.org", "2001:db8::1", "192.0.2.7", "ops@example.org"])
    def test_only_the_names_that_are_allowed_are_let_in(self, place: Place, name: str) -> None:
        server = place.serve(VERIFIED + f"  client_allowed_sans: ['{name}', other.example.org]\n")
        assert ask(server, place.trust(place.ca.issue_cert("first.example.org", name))).status == 200
        assert is_refused(server, place.trust(place.ca.issue_cert("first.example.org")))
        assert len(place.seen) == 1


class TestPasswords:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            basic("alice", "wrong"),
            basic("mallory", "open sesame"),
            basic("alice", ""),
            basic("alice", "open sesame\0"),
            basic("alice", "x" * 100),
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic é"},
            {"Authorization": "Basic " + base64.b64encode(b"alice").decode()},
            {"Authorization": "Bearer " + base64.b64encode(b"alice:open sesame").decode()},
        ],
        ids=str,
    )
    def test_who_may_not_come_in_is_asked_for_a_password(self, place: Place, headers: dict[str, str]) -> None:
        response = ask(place.serve(users(alice="open sesame", bob="b")), headers=headers)
        assert response.status == 401
        assert response.getheader("WWW-Authenticate") == 'Basic realm="celeryscope", charset="UTF-8"'
        assert place.seen == []

    @pytest.mark.parametrize(
        ("user", "password"), [("alice", "open sesame"), ("bob", "pass:wörd"), ("jürgen", "x" * 72)]
    )
    def test_who_may_comes_in(self, place: Place, user: str, password: str) -> None:
        server = place.serve(users(alice="open sesame", bob="pass:wörd", jürgen="x" * 72))
        assert ask(server, headers=basic(user, password)).status == 200

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "TRACE"])
    def test_no_method_comes_in_without(self, place: Place, method: str) -> None:
        with closing(connect(place.serve(ALICES), None)) as connection:
            connection.request(method, "/metrics")
            assert connection.getresponse().status == 401
        assert place.seen == []

    def test_every_request_of_a_connection_needs_its_own(self, place: Place) -> None:
        with closing(connect(place.serve(ALICES), None)) as kept:
            headers: tuple[Mapping[str, str], ...] = (
                ALICE,
                {},
                basic("alice", "wrong"),
                basic("bob", "open sesame"),
                ALICE,
            )
            assert [ask_again(kept, sent).status for sent in headers] == [200, 401, 401, 401, 200]

    def test_credentials_go_no_further(self, place: Place) -> None:
        ask(place.serve(users(alice="open sesame")), headers=ALICE)
        assert "Authorization" not in place.seen[0].headers

    @pytest.mark.parametrize("path", HEALTH_PATHS)
    def test_the_health_of_the_process_is_told_without_one(self, place: Place, path: str) -> None:
        assert ask(place.serve(users(alice="open sesame")), path=path).status == 200

    @pytest.mark.parametrize("path", ["/", "/-/healthy/", "/-/ready/../../metrics", "/runbooks/", "/%00"])
    def test_nothing_else_is(self, place: Place, path: str) -> None:
        assert ask(place.serve(users(alice="open sesame")), path=path).status == 401

    def test_an_unknown_user_costs_as_much_as_a_wrong_password(self, place: Place, checks: Checks) -> None:
        server = place.serve(users(alice="open sesame", bob="b"))
        for number, name in enumerate(("alice", "mallory", "alice", "mallory", "trudy"), start=1):
            assert ask(server, headers=basic(name, "wrong")).status == 401
            assert checks.count == number

    def test_a_password_is_checked_once_while_it_is_right(self, place: Place, checks: Checks) -> None:
        server = place.serve(users(alice="open sesame"))
        for _ in range(3):
            assert ask(server, headers=ALICE).status == 200
        assert checks.count == 1
        place.file.write_text(users(alice="another"))
        place.look()
        assert ask(server, headers=ALICE).status == 401
        assert ask(server, headers=basic("alice", "another")).status == 200

    def test_guesses_hold_up_neither_who_was_let_in_nor_health(self, place: Place, checks: Checks) -> None:
        server = place.serve(users(alice="open sesame"))
        assert ask(server, headers=ALICE).status == 200
        checks.free.clear()
        statuses: list[int] = []
        with ExitStack() as stack:

            def guess(number: int) -> None:
                statuses.append(ask(server, headers=basic("alice", f"guess {number}")).status)

            threads = [threading.Thread(target=guess, args=(number,)) for number in range(40)]
            for thread in threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(checks.free.set)
            wait_until(lambda: len(statuses) == len(threads) - 4, PATIENCE, "all but four are turned away")
            assert set(statuses) == {503}
            assert ask(server, headers=ALICE).status == 200
            assert ask(server, path="/-/healthy").status == 200
            assert checks.count == 2  # one at a time
        assert sorted(statuses)[:4] == [401] * 4
        assert ask(server, headers=basic("alice", "one more")).status == 401


class TestRenewal:
    def test_a_new_certificate_is_seen_by_the_next_connection(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server, context = place.serve(TLS), place.trust()
        before = serial(server, context)
        with closing(connect(server, context)) as kept:
            assert ask_again(kept).status == 200
            place.renew()
            assert serial(server, context) == before  # a second has not passed
            place.look()
            after = serial(server, context)
            assert after != before
            assert ask_again(kept).status == 200
        assert [record.getMessage() for record in caplog.records] == [
            f"read {place.file} and the files that it names again"
        ]

    def test_one_that_is_put_there_by_a_link_is_seen_too(self, place: Place) -> None:
        folder = place.file.parent
        for name in ("server.pem", "server.key"):
            (folder / f"first-{name}").write_bytes((folder / name).read_bytes())
            (folder / name).unlink()
            (folder / name).symlink_to(f"first-{name}")
        server, context = place.serve(TLS), place.trust()
        before = serial(server, context)
        issued = place.ca.issue_cert(HOST)
        issued.cert_chain_pems[0].write_to_path(folder / "second-server.pem")
        issued.private_key_pem.write_to_path(folder / "second-server.key")
        for name in ("server.pem", "server.key"):
            (folder / "link").symlink_to(f"second-{name}")
            (folder / "link").rename(folder / name)
        place.look()
        assert serial(server, context) != before

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("server.pem", b"", "cert_file {} holds no certificate"),
            ("server.key", b"junk", "the key in key_file {} is none that can be read"),
            ("server.key", None, "key_file {} cannot be read: No such file"),
            ("server.key", trustme.CA().issue_cert(HOST).private_key_pem.bytes(), "is not that of the certificate"),
            ("ca.pem", b"junk", "client_ca_file {} holds no certificate"),
            ("web.yml", b"tls_server_config: {", "the web configuration file {} is not YAML"),
            ("web.yml", b"", "the web configuration file {} is empty"),
            ("web.yml", b"http_server_config: {http2: false}", "{} now lacks tls_server_config: that takes a restart"),
            ("web.yml", NAMED.encode(), "{} now names no user in basic_auth_users: that takes a restart"),
            ("web.yml", (VERIFIED + ALICES).encode(), "{} now lacks tls_server_config.client_allowed_sans: that takes"),
            ("web.yml", (TLS + ALICES).encode(), "{} now requires no certificate in tls_server_config.client_auth"),
            ("web.yml", b"http_server_config: !!map [a]", "the web configuration file {} is not YAML"),
        ],
    )
    def test_a_broken_one_changes_nothing_is_told_once_and_mended_at_any_time(
        self, place: Place, caplog: pytest.LogCaptureFixture, name: str, content: bytes | None, said: str
    ) -> None:
        caplog.set_level(logging.INFO)
        server = place.serve(NAMED + ALICES)
        context = place.trust(place.ca.issue_cert("prometheus.example.org"))
        path = place.file.parent / name
        good, before = path.read_bytes(), serial(server, context)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        for _ in range(3):
            place.look()
            assert serial(server, context) == before
        assert ask(server, context).status == 401
        assert is_refused(server, place.trust())
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert said.format(path) in record.getMessage()
        assert record.getMessage().endswith("; what was read before stays in force")
        path.write_bytes(good)
        place.renew()
        place.look()
        assert serial(server, context) != before
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]

    def test_a_file_that_is_half_written_opens_nothing(self, place: Place) -> None:
        text = ALICES + NAMED
        place.file.write_text(text)
        policy = PolicyFile(place.file, place.clock)
        for length in range(len(text)):
            place.file.write_text(text[:length])
            place.look()
            found = policy.current()
            assert found.context is not None
            assert found.context.verify_mode is ssl.CERT_REQUIRED
            assert found.allowed_names
            assert found.users

    def test_a_new_authority_shuts_out_who_came_by_the_old_one(self, place: Place) -> None:
        server = place.serve(VERIFIED)
        old = place.trust(place.ca.issue_cert("prometheus.example.org"))
        assert not is_refused(server, old)
        other = trustme.CA()
        other.cert_pem.write_to_path(place.file.parent / "ca.pem")
        place.look()
        assert is_refused(server, old)
        assert not is_refused(server, place.trust(other.issue_cert("prometheus.example.org")))

    def test_users_change_for_connections_that_are_open(self, place: Place) -> None:
        with closing(connect(place.serve(users(alice="open sesame")), None)) as kept:
            assert ask_again(kept, ALICE).status == 200
            place.file.write_text(users(bob="b"))
            place.look()
            assert ask_again(kept, ALICE).status == 401
            assert ask_again(kept, basic("bob", "b")).status == 200

    def test_passwords_may_be_added(self, place: Place) -> None:
        server, context = place.serve(TLS), place.trust()
        assert ask(server, context).status == 200
        place.file.write_text(TLS + users(alice="open sesame"))
        place.look()
        assert ask(server, context).status == 401
        assert ask(server, context, ALICE).status == 200

    def test_the_files_are_read_again_only_when_they_change(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads: list[Path] = []
        read = webconfig.read

        def noted(file: Path) -> webconfig.WebConfig:
            reads.append(file)
            return read(file)

        monkeypatch.setattr(webconfig, "read", noted)
        server, context = place.serve(TLS), place.trust()
        for _ in range(5):
            place.look()
            ask(server, context)
        assert len(reads) == 1


class TestDocumentation:
    """The example of docs/operations.md."""

    TEXT = (REPOSITORY / "docs" / "operations.md").read_text().partition("```yaml\ntls_server_config")[2]
    EXAMPLE = "tls_server_config" + TEXT.partition("```")[0]

    def test_it_is_what_is_served(self, place: Place) -> None:
        server = place.serve(self.EXAMPLE)
        client = place.trust(place.ca.issue_cert("prometheus.example.org"))
        response = ask(server, client)
        assert (response.status, response.getheader("Strict-Transport-Security")) == (401, "max-age=31536000")
        assert is_refused(server, place.trust())

    @pytest.mark.system("promtool")
    @needs("promtool")
    def test_prometheus_accepts_it(self, place: Place) -> None:
        place.file.write_text(self.EXAMPLE)
        checked = subprocess.run(
            ["promtool", "check", "web-config", str(place.file)], check=False, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


class TestFiles:
    """What is said at the start of files that cannot be used."""

    @staticmethod
    def refusal(place: Place, text: str = TLS) -> str:
        place.file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            PolicyFile(place.file, place.clock)
        return str(caught.value)

    def test_an_encrypted_key_is_named_and_nobody_is_asked(self, place: Place) -> None:
        path = place.file.parent / "server.key"
        key = load_pem_private_key(path.read_bytes(), None)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
        assert self.refusal(place) == f"the key in key_file {path} is encrypted: it must not be"

    @pytest.mark.parametrize(("name", "key"), [("server.pem", "cert_file"), ("ca.pem", "client_ca_file")])
    def test_a_certificate_in_another_form_is_named(self, place: Place, name: str, key: str) -> None:
        path = place.file.parent / name
        path.write_bytes(ssl.PEM_cert_to_DER_cert(path.read_text()))
        assert self.refusal(place, VERIFIED) == f"{key} {path} holds no certificate that can be read: it must be PEM"

    def test_what_stands_between_certificates_may_be_in_any_letters(self, place: Place) -> None:
        path = place.file.parent / "ca.pem"
        path.write_bytes("# Főtanúsítvány\n".encode() + path.read_bytes())
        server = place.serve(VERIFIED)
        assert not is_refused(server, place.trust(place.ca.issue_cert("prometheus.example.org")))

    def test_certificate_and_key_in_the_wrong_place_are_named(self, place: Place) -> None:
        text = "tls_server_config: {cert_file: server.key, key_file: server.pem}"
        assert "cert_file" in (said := self.refusal(place, text))
        assert "holds no certificate" in said

    def test_files_that_are_not_there_are_named_by_their_keys(self, place: Place) -> None:
        for name, key in (("server.pem", "cert_file"), ("server.key", "key_file"), ("ca.pem", "client_ca_file")):
            text = VERIFIED.replace(name, "gone.pem")
            assert self.refusal(place, text) == f"{key} {place.file.parent / 'gone.pem'} cannot be read: " + (
                "No such file or directory"
            )


class TestExporter:
    """The program itself."""

    @staticmethod
    def command(file: Path, port: int) -> list[str]:
        options = ["--broker-url", f"redis://{HOST}:1/0", "--listen-address", f"{HOST}:{port}"]
        return python("-m", "celeryscope", "run", *options, "--web-config-file", str(file))

    environ: Mapping[str, str] = {"PYTHONPATH": pythonpath(REPOSITORY / "exporter")}

    def test_it_serves_https_behind_a_password(self, place: Place, tmp_path: Path) -> None:
        place.file.write_text(VERIFIED + users(alice="open sesame"))
        port = free_port()
        context = place.trust(place.ca.issue_cert("prometheus.example.org"))

        def status(headers: Mapping[str, str]) -> int:
            with closing(http.client.HTTPSConnection(HOST, port, timeout=PATIENCE, context=context)) as connection:
                return ask_again(connection, headers).status

        with started(self.command(place.file, port), tmp_path / "exporter.log", self.environ) as process:
            wait_until(partial(status, {}), 2 * PATIENCE, "it answers")
            assert status({}) == 401
            assert status(ALICE) == 200
            assert f"serves https://{HOST}:{port}/metrics" in process.log
            assert "sesame" not in process.log

    def test_a_file_that_cannot_be_used_is_told_in_one_line_with_exit_code_2(
        self, place: Place, tmp_path: Path
    ) -> None:
        place.file.write_text(TLS + "  min_versoin: TLS13\n")
        with started(self.command(place.file, free_port()), tmp_path / "exporter.log", self.environ) as process:
            assert process.wait(2 * PATIENCE) == 2
            assert process.log == (
                "celeryscope: error: unknown key tls_server_config.min_versoin in "
                f"{place.file}; did you mean min_version?\n"
            )
