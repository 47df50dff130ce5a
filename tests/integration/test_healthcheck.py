"""The image's own probe, asked of the real web server in all its clothes, and of what is none."""

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from pathlib import Path

import bcrypt
import pytest
import trustme

from celeryscope import config, healthcheck
from celeryscope.clock import SystemClock
from celeryscope.errors import ConfigError
from celeryscope.http import Answer, Request, line
from celeryscope.values import Address
from celeryscope.web import WebServer
from celeryscope.web.policy import PolicyFile
from support.processes import REPOSITORY, python, pythonpath
from support.servers import free_port

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
VERIFIED = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


class Place:
    """A server that is well and not ready, on a free port, with any web configuration."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / "ca.pem")
        issued = ca.issue_cert("scope.example")
        issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
        issued.private_key_pem.write_to_path(folder / "server.key")

    def serve(self, text: str = "") -> Address:
        file = self.folder / "web.yml"
        file.write_text(text)
        if text:
            server = WebServer(HOST, 0, self.answer, policy=PolicyFile(file, SystemClock()).current)
        else:
            server = WebServer(HOST, 0, self.answer)
        server.start()
        self._stack.callback(server.stop)
        return Address(HOST, server.port)

    def answer(self, request: Request) -> Answer:
        if request.path == "/-/healthy":
            return line(HTTPStatus.OK, "healthy")
        return line(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the start is not over")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


class TestAsking:
    def test_a_server_that_is_well_is_well(self, place: Place) -> None:
        assert healthcheck.ask(place.serve(), "/-/healthy") is None

    def test_what_it_says_of_itself_is_told(self, place: Place) -> None:
        trouble = healthcheck.ask(place.serve(), "/-/ready")
        assert trouble == "/-/ready is answered with 503: not ready: the start is not over"

    def test_tls_is_spoken_where_it_is_wanted_whoever_the_certificate_names(self, place: Place) -> None:
        address = place.serve(TLS)
        assert healthcheck.ask(address, "/-/healthy") is None
        assert "503" in (healthcheck.ask(address, "/-/ready") or "")

    @pytest.mark.parametrize("version", ["TLS12", "TLS13"])
    def test_a_server_that_wants_a_certificate_is_there(self, place: Place, version: str) -> None:
        assert healthcheck.ask(place.serve(VERIFIED + f"  max_version: {version}\n"), "/-/healthy") is None

    def test_one_whose_alert_is_lost_in_a_reset_is_there(self, place: Place) -> None:
        place.serve(TLS)  # writes the certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place.folder / "server.pem", place.folder / "server.key")

        def shake_hands_and_reset() -> None:
            for _ in ("plain", "TLS"):
                connection, _ = listening.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with closing(connection), suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_side=True).close()

        with closing(socket.create_server((HOST, 0))) as listening:
            thread = threading.Thread(target=shake_hands_and_reset, daemon=True)
            thread.start()
            assert healthcheck.ask(Address(HOST, listening.getsockname()[1]), "/-/healthy") is None
            thread.join()

    def test_a_server_that_wants_a_password_is_there(self, place: Place) -> None:
        secret = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
        assert healthcheck.ask(place.serve(f"basic_auth_users:\n  alice: {secret}\n"), "/-/ready") is None

    def test_where_nobody_listens_it_says_so(self) -> None:
        assert "nobody listens" in (healthcheck.ask(Address(HOST, free_port()), "/-/healthy") or "")

    def test_who_takes_connections_and_says_nothing_is_ill(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(healthcheck, "TIMEOUT", 0.1)
        with closing(socket.create_server((HOST, 0))) as mute:
            assert healthcheck.ask(Address(HOST, mute.getsockname()[1]), "/-/healthy") is not None

    @pytest.mark.parametrize("every", ["", "0.0.0.0"])
    def test_an_address_that_stands_for_all_is_asked_on_loopback(self, place: Place, every: str) -> None:
        assert healthcheck.ask(Address(every, place.serve().port), "/-/healthy") is None


class TestWhere:
    def test_the_variable_wins_over_the_file_and_the_file_over_the_default(self, tmp_path: Path) -> None:
        file = tmp_path / "celeryscope.toml"
        file.write_text('listen_address = "0.0.0.0:7000"\nlog_level = "debug"\n')
        both = {"CELERYSCOPE_LISTEN_ADDRESS": ":8000", "CELERYSCOPE_CONFIG": str(file)}
        assert config.listen_address(both) == Address("", 8000)
        assert config.listen_address({"CELERYSCOPE_CONFIG": str(file)}) == Address("0.0.0.0", 7000)
        assert config.listen_address({}) == Address("127.0.0.1", 9808)

    def test_an_impossible_address_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="CELERYSCOPE_LISTEN_ADDRESS"):
            config.listen_address({"CELERYSCOPE_LISTEN_ADDRESS": "9808"})


class TestProgram:
    def run(self, *arguments: str, listen: str) -> subprocess.CompletedProcess[str]:
        environ = {"PYTHONPATH": pythonpath(REPOSITORY / "exporter"), "CELERYSCOPE_LISTEN_ADDRESS": listen}
        command = python("-m", "celeryscope.healthcheck", *arguments)
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=20)

    def test_tells_by_its_exit_code(self, place: Place) -> None:
        address = str(place.serve())
        assert self.run(listen=address).returncode == 0
        not_ready = self.run("ready", listen=address)
        assert (not_ready.returncode, not_ready.stdout) == (1, "")
        assert "503" in not_ready.stderr

    def test_knows_two_questions(self) -> None:
        asked = self.run("alive", listen="127.0.0.1:1")
        assert asked.returncode == 1
        assert "expected healthy or ready" in asked.stderr
