"""The way to the broker: the app, what its connections are given, and what is said when they fail."""

import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import celery
import pytest
from kombu.exceptions import OperationalError
from redis import exceptions as redis_errors
from redis.sentinel import MasterNotFoundError

from celeryscope import broker
from celeryscope.config import Config
from celeryscope.errors import ConfigError, StreamError
from celeryscope.redaction import redact

URL = "redis://broker:6379/0"


def app_of(url: str = URL, **settings: Any) -> celery.Celery:
    return broker.celery_app(Config(broker_url=url, **settings))


def options_of(app: celery.Celery) -> dict[str, Any]:
    return dict(broker.connect(app).transport_options)


class TestOwnApp:
    def test_it_connects_to_the_url_whatever_celerys_variables_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
            monkeypatch.setenv(name, "redis://elsewhere:6379/0")
        app = app_of()
        assert broker.connect(app).hostname == "broker"
        assert app.connection_for_write().hostname == "broker"
        assert app.pool.connection.hostname == "broker"
        assert broker.broker_address(app) == URL

    def test_no_settings_module_is_read_by_accident(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "celeryconfig.py").write_text("raise SystemExit('read')")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("CELERY_CONFIG_MODULE", "celeryconfig")
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "celeryconfig")
        assert app_of().conf.event_exchange == "celeryev"

    def test_it_does_not_become_the_current_app(self) -> None:
        current = celery.current_app._get_current_object()
        assert app_of() is not current
        assert celery.current_app._get_current_object() is current

    def test_settings_reach_it(self) -> None:
        app = app_of(event_exchange="mine", accept_content=("json", "msgpack"))
        assert app.conf.event_exchange == "mine"
        assert app.conf.accept_content == ["json", "msgpack"]

    def test_its_secrets_are_registered_for_masking(self) -> None:
        app_of(
            "redis://:registered-one@h/0",
            broker_transport_options={"sentinel_kwargs": {"password": "registered-two"}},
        )
        assert redact("registered-one registered-two") == "*** ***"


class TestOptions:
    @pytest.mark.parametrize("url", [URL, "rediss://h/0?ssl_cert_reqs=none", "sentinel://h:26379"])
    def test_a_dead_peer_of_redis_is_noticed_within_30_s(self, url: str) -> None:
        options = options_of(app_of(url))
        keepalive = options["socket_keepalive_options"]
        idle = getattr(socket, "TCP_KEEPIDLE", None) or vars(socket)["TCP_KEEPALIVE"]
        assert options["socket_keepalive"] is True
        assert keepalive[idle] + keepalive[socket.TCP_KEEPCNT] * keepalive[socket.TCP_KEEPINTVL] < 30
        assert options["socket_timeout"] == 10.0
        assert options["socket_connect_timeout"] == 5.0
        assert options["health_check_interval"] == 10

    def test_what_the_user_set_stays(self) -> None:
        options = options_of(app_of(broker_transport_options={"socket_timeout": 99, "socket_keepalive": False, "x": 1}))
        assert (options["socket_timeout"], options["socket_keepalive"], options["x"]) == (99, False, 1)

    def test_every_connection_of_the_app_has_them(self) -> None:
        assert app_of().pool.connection.transport_options["socket_keepalive"] is True

    @pytest.mark.parametrize("url", ["amqp://h//", "amqps://h//", "pyamqp://h//"])
    def test_nothing_is_waited_for_without_end_over_amqp(self, url: str) -> None:
        options = options_of(app_of(url))
        assert (options["read_timeout"], options["write_timeout"]) == (10.0, 10.0)
        assert options["socket_settings"][socket.TCP_KEEPCNT] == 3
        assert "socket_timeout" not in options

    def test_tls_settings_in_a_url_reach_amqp_under_its_own_names(self) -> None:
        url = "amqps://h/v?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"
        assert options_of(app_of(url))["ssl"] == {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/ca.pem"}
        assert "ssl" not in options_of(app_of("amqps://h/v"))

    @pytest.mark.parametrize(("asked", "heartbeat"), [(120, 10.0), (None, 10.0), (30, 30.0), (0, 0.0)])
    def test_the_apps_own_heartbeat_is_respected_where_it_has_one(self, asked: float | None, heartbeat: float) -> None:
        app = app_of("amqp://h//")
        app.conf.broker_heartbeat = asked
        assert broker.connect(app, heartbeat=True).heartbeat == heartbeat
        assert not broker.connect(app).heartbeat

    def test_other_transports_get_no_options_of_these(self) -> None:
        assert options_of(app_of("memory://")) == {"max_retries": 0}

    @pytest.mark.parametrize(
        ("url", "retries"), [(URL, 0), (f"{URL};{URL};{URL}", 2), ("sentinel://a;sentinel://b", 0)]
    )
    def test_each_url_is_tried_once(self, url: str, retries: int) -> None:
        assert options_of(app_of(url))["max_retries"] == retries

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            (URL, "redis"),
            ("rediss://h", "rediss"),
            ("sentinel://a;sentinel://b", "sentinel"),
            ("redis+socket:///run/x.sock", "redis"),
            ("pyamqp://h", "amqp"),
            ("amqps://h", "amqps"),
            ("sqs://", "sqs"),
            ("nonsense://h", "nonsense"),
        ],
    )
    def test_the_transport_is_named_as_in_the_url(self, url: str, name: str) -> None:
        assert broker.transport_name(app_of(url)) == name


class TestWrongUrls:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (
                "reddis://h/0",
                "the broker URL's transport is not known (No such transport: reddis. Did you mean redis?)",
            ),
            ("os.path://h/0", "the broker URL's transport is not known"),
            ("broker:6379/0", "the broker URL has no transport"),
            ("redis://h:port-pw/0", "the broker URL cannot be read"),
            ("redis://h:99999/0", "the broker URL cannot be read"),
            ("redis://[::1/0", "the broker URL cannot be read"),
            ("redis://h/name", "the broker URL's path is no number of a database"),
            ("redis://:port-pw/rest@h:6379/0", "the broker URL cannot be read"),
            ("redis://:12/port-pw@h:6379/0", "the broker URL cannot be read"),
            ("amqp://u:12/port-pw@h:5672/shop", "the broker URL cannot be read"),
            ("redis://:port-pw#rest@h:6379/0", "the broker URL cannot be read"),
            ("redis://h/0?socket_timeout=3", "the broker URL has a parameter that kombu does not take"),
            ("rediss://h/0?ssl_cert_reqs=some", "the broker URL has a parameter that kombu cannot read"),
            ("amqps://h/v?ssl_cert_reqs=some", "the broker URL has a parameter that kombu cannot read"),
        ],
    )
    def test_they_show_when_connecting_in_one_line_without_a_piece_of_a_password(self, url: str, said: str) -> None:
        app = app_of(url)
        with pytest.raises(StreamError) as caught:
            broker.connect(app)
        message = str(caught.value)
        assert message.startswith(said)
        assert "port-pw" not in message
        assert "\n" not in message
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    @pytest.mark.parametrize(
        "url", [URL, "redis://:p%40%2Fw@h", "redis://h/", "amqp://h/name", "amqp://", "amqp://h/a%40b", "memory://"]
    )
    def test_right_ones_pass(self, url: str) -> None:
        broker.connect(app_of(url))


PROJECT = """
import celery

app = celery.Celery("proj", broker="redis://:proj-secret@project:6379/3", set_as_current=False)
app.conf.event_exchange = "projev"
app.conf.broker_transport_options = {"global_keyprefix": "p-", "socket_timeout": 7}
app.conf.accept_content = ["pickle", "json"]
other = 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


class TestProjectApp:
    def test_its_own_settings_apply(self, project: Path) -> None:
        (project / "proj_a.py").write_text(PROJECT)
        app = broker.celery_app(Config(app="proj_a"))
        connection = broker.connect(app)
        assert (connection.hostname, connection.virtual_host) == ("project", "3")
        assert app.conf.event_exchange == "projev"
        assert connection.transport_options["global_keyprefix"] == "p-"
        assert connection.transport_options["socket_timeout"] == 7
        assert connection.transport_options["socket_keepalive"] is True
        assert broker.broker_address(app) == "redis://:***@project:6379/3"

    def test_without_a_broker_it_is_celerys_own_default(self) -> None:
        app = broker.celery_app(Config(app="bare"), celery.Celery("bare", set_as_current=False))
        assert broker.broker_address(app) == "amqp://guest@localhost//"
        assert broker.connect(app).as_uri() == celery.Celery(set_as_current=False).connection_for_read().as_uri()

    def test_ours_win_over_them_and_pickle_is_refused(self, project: Path) -> None:
        (project / "proj_b.py").write_text(PROJECT)
        config = Config(app="proj_b:app", event_exchange="x", broker_transport_options={"global_keyprefix": "q-"})
        app = broker.celery_app(config)
        assert app.conf.event_exchange == "x"
        assert app.conf.accept_content == ["json"]
        assert broker.connect(app).transport_options["global_keyprefix"] == "q-"

    def test_settings_in_a_namespace_are_overridden_too(self, project: Path) -> None:
        (project / "proj_c_settings.py").write_text(
            "CELERY_BROKER_URL = ['redis://one/1', 'redis://two/2']\nCELERY_ACCEPT_CONTENT = ['pickle']\n"
        )
        (project / "proj_c.py").write_text(
            "import celery\napp = celery.Celery('c', set_as_current=False)\n"
            "app.config_from_object('proj_c_settings', namespace='CELERY')\n"
        )
        app = broker.celery_app(Config(app="proj_c"))
        assert broker.connect(app).hostname == "one"
        assert app.conf.accept_content == ["json"]
        assert app.control.mailbox.accept == ["json"]

    def test_the_read_url_is_what_is_watched(self, project: Path) -> None:
        (project / "proj_d.py").write_text(PROJECT + "\napp.conf.broker_read_url = 'amqp://reader//'\n")
        app = broker.celery_app(Config(app="proj_d"))
        assert broker.connect(app).hostname == "reader"
        assert broker.transport_name(app) == "amqp"

    @pytest.mark.parametrize(
        ("source", "name", "reason"),
        [
            (None, "proj_missing", "ModuleNotFoundError: No module named 'proj_missing'"),
            ("import proj_dependency", "proj_e", "ModuleNotFoundError: No module named 'proj_dependency'"),
            ("1 / 0", "proj_f", "ZeroDivisionError: division by zero"),
            ("syntax error", "proj_g", "SyntaxError"),
            ("x = 1", "proj_h", "AttributeError"),
            ("x = 1", "proj_i:x", "it is of type int"),
            ("raise ValueError('redis://:import-pw@h/0')", "proj_j", "redis://:***@h/0"),
            (
                "import celery\napp = celery.Celery(set_as_current=False)\napp.config_from_object('proj_no')",
                "proj_k",
                "No module named 'proj_no'",
            ),
        ],
    )
    def test_one_that_cannot_be_loaded_is_told_with_the_reason(
        self, project: Path, source: str | None, name: str, reason: str
    ) -> None:
        if source is not None:
            (project / f"{name.partition(':')[0]}.py").write_text(source)
        with pytest.raises(ConfigError) as caught:
            broker.celery_app(Config(app=name))
        assert f"app cannot be '{name}' (-A)" in str(caught.value)
        assert reason in str(caught.value)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


REFUSED = redis_errors.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")


class TestDescribe:
    """The errors are what redis-py 8.1 and kombu 5.7 raised against Valkey 9.1 and Redis 7.0."""

    @pytest.mark.parametrize(
        ("error", "what"),
        [
            (redis_errors.AuthenticationError("Authentication required."), "wants credentials"),
            (
                redis_errors.AuthenticationError("invalid username-password pair or user is disabled."),
                "refused the cred",
            ),
            (amqp.AccessRefused("ACCESS_REFUSED - Login was refused", (10, 50)), "refused the credentials"),
            (
                amqp.NotAllowed("NOT_ALLOWED - vhost x not found", (10, 40), "Connection.open", 530),
                "refused the virtual host (NOT_ALLOWED - vhost x not found):",
            ),
            (
                amqp.AccessRefused("ACCESS_REFUSED - access to exchange 'celeryev' in vhost 'v' refused", (40, 10)),
                "lacks a permission",
            ),
            (amqp.PreconditionFailed("PRECONDITION_FAILED - inequivalent arg 'type'", (40, 10)), "declared otherwise"),
            (amqp.ConnectionForced("Too many heartbeats missed"), "silent for two heartbeats"),
            (amqp.ConnectionForced("CONNECTION_FORCED - broker forced connection closure"), "closed the connection"),
            (amqp.RecoverableConnectionError("connection already closed"), "closed the connection"),
            (OSError("Server unexpectedly closed connection"), "closed the connection"),
            (amqp.ConsumerCancelled("None1", (60, 30)), "cancelled our consumer"),
            (redis_errors.NoPermissionError("No permissions to access a channel"), "may not use pub/sub"),
            (
                redis_errors.NoPermissionError("User bob has no permissions to run the 'psubscribe' command"),
                "may not use pub/sub",
            ),
            (
                redis_errors.NoPermissionError("User bob has no permissions to run the 'ping' command"),
                "lacks a perm",
            ),
            (REFUSED, "refused the connection (Error 111 connecting to 127.0.0.1:1. Connection refused):"),
            (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
            (socket.gaierror(-2, "Name or service not known"), "host name is not known"),
            (
                redis_errors.ConnectionError("Error -2 connecting to x:6379. Name or service not known."),
                "host name",
            ),
            (TimeoutError("timed out"), "did not answer in time"),
            (redis_errors.TimeoutError("Timeout reading from socket"), "did not answer in time"),
            (redis_errors.ConnectionError("Connection closed by server."), "closed the connection"),
            (ConnectionResetError(104, "Connection reset by peer"), "closed the connection"),
            (
                caused(
                    redis_errors.TimeoutError("Timeout connecting to server"),
                    TimeoutError("_ssl.c:989: The handshake operation timed out"),
                ),
                "does not answer TLS",
            ),
            (
                ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
                "does not answer TLS",
            ),
            (
                ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
                "certificate is not acc",
            ),
            (
                redis_errors.InvalidResponse('Protocol error, got "H" as reply type byte'),
                "speaks another protocol",
            ),
            (redis_errors.ResponseError("DB index is out of range"), "no such database"),
            (
                redis_errors.ResponseError("unknown command 'SENTINEL', with args beginning with: "),
                "is no sentinel",
            ),
            (redis_errors.ConnectionError("max number of clients reached"), "has no connection left"),
            (
                redis_errors.BusyLoadingError("Redis is loading the dataset in memory"),
                "still reading its data",
            ),
            (redis_errors.ReadOnlyError("You can't write against a read only replica."), "read-only replica"),
            (ValueError("'master_name' transport option must be specified."), "needs the name of the master"),
            (ModuleNotFoundError("No module named 'botocore'"), "client library is missing"),
            (FileNotFoundError(2, "No such file or directory"), "is not there"),
            (RuntimeError("something else"), "RuntimeError: something else"),
            (RuntimeError(), "RuntimeError"),
        ],
    )
    def test_it_says_what_is_wrong_in_one_line(self, error: Exception, what: str) -> None:
        said = broker.describe(error)
        assert what in said
        assert "\n" not in said

    def test_kombus_wrapping_hides_nothing(self) -> None:
        wrapped = caused(OperationalError(str(REFUSED)), REFUSED)
        assert broker.describe(wrapped) == broker.describe(REFUSED)

    def test_what_is_described_already_stays(self) -> None:
        assert broker.describe(StreamError("the stream is gone")) == "the stream is gone"

    def test_a_sentinels_long_state_is_left_out(self) -> None:
        error = MasterNotFoundError(f"No master found for 'm' : <redis.client.Redis({'x' * 1000})> - gone")
        assert broker.describe(error).startswith("no sentinel knows a reachable master (No master found for 'm'):")

    def test_a_reason_is_cut_masked_and_on_one_line(self) -> None:
        said = broker.describe(OSError(f"a\nb redis://:describe-pw@h/0 {'x' * 1000}"))
        assert said.startswith("OSError: a b redis://:***@h/0 xxx")
        assert len(said) < 300
