"""The configuration: where settings come from, which one wins, and what is said about a wrong one."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from celeryscope import config
from celeryscope.config import SETTINGS, Config
from celeryscope.errors import ConfigError
from celeryscope.metrics import catalog
from celeryscope.naming import Rename
from celeryscope.objectives import QueueObjectives, TaskObjectives
from celeryscope.redaction import redact
from celeryscope.settings import Setting
from celeryscope.values import Address

URL = "redis://broker:6379/0"
BROKER = {"broker_url": URL}


def load(toml: str = "", environ: dict[str, str] | None = None, tmp_path: Path | None = None, **options: Any) -> Config:
    file = None
    if tmp_path is not None:
        file = tmp_path / "celeryscope.toml"
        file.write_text(toml)
    if not {"broker_url", "broker_url_file", "app"} & set(options):
        options |= BROKER
    return config.load(options, environ or {}, file)


def error_of(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def test_defaults_are_those_of_the_declarations() -> None:
    assert load() == Config(broker_url=URL)


def test_default_buckets_are_the_catalogs() -> None:
    assert config.RUNTIME_BUCKETS == catalog.RUNTIME_BUCKETS
    assert config.WAIT_BUCKETS == catalog.WAIT_BUCKETS


def test_every_setting_has_one_field_and_one_variable() -> None:
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(Config) if field.name != "objectives"]
    assert SETTINGS["log_level"].variable == "CELERYSCOPE_LOG_LEVEL"
    assert SETTINGS["app"].flags == ("-A", "--app")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_default_as_it_is_shown_parses_to_itself(setting: Setting) -> None:
    if setting.default and setting.key != "broker_transport_options":
        assert setting.kind.parse(setting.kind.show(setting.default)) == setting.default


def test_option_wins_over_variable_over_file_over_default(tmp_path: Path) -> None:
    toml = 'worker_timeout = "3m"\nlog_level = "error"\ntask_ttl = 7'
    environ = {"CELERYSCOPE_WORKER_TIMEOUT": "2m", "CELERYSCOPE_LOG_LEVEL": "debug"}
    loaded = load(toml, environ, tmp_path, worker_timeout="1m")
    assert (loaded.worker_timeout, loaded.log_level, loaded.task_ttl) == (60.0, "debug", 7.0)
    assert loaded.canary_interval == 15.0


def test_an_empty_variable_is_as_good_as_unset() -> None:
    assert load(environ={"CELERYSCOPE_LOG_LEVEL": " ", "CELERYSCOPE_CONFIG": ""}).log_level == "info"


def test_an_option_that_was_not_given_is_none_or_an_empty_tuple() -> None:
    environ = {"CELERYSCOPE_LOG_LEVEL": "debug", "CELERYSCOPE_BROKER_TRANSPORT_OPTIONS": '{"a": 1}'}
    loaded = load(environ=environ, log_level=None, broker_transport_options=())
    assert loaded.log_level == "debug"
    assert dict(loaded.broker_transport_options) == {"a": 1}


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "named.toml"
    file.write_text("prefetch_histogram = true")
    assert load(environ={"CELERYSCOPE_CONFIG": str(file)}).prefetch_histogram is True


def test_passive_and_enable_events_exclude_each_other() -> None:
    assert load(passive=True).passive
    assert load(environ={"CELERYSCOPE_ENABLE_EVENTS": "true"}).enable_events
    message = error_of(passive=True, environ={"CELERYSCOPE_ENABLE_EVENTS": "1"})
    assert message.startswith("passive and enable_events exclude each other")


class TestBroker:
    def test_celery_broker_url_is_honoured_last(self) -> None:
        environ = {"CELERY_BROKER_URL": "redis://last/0"}
        assert config.load({}, environ).broker_url == "redis://last/0"
        assert config.load({}, environ | {"CELERYSCOPE_BROKER_URL": "redis://own/0"}).broker_url == "redis://own/0"
        assert config.load({"app": "proj"}, environ).broker_url == ""

    def test_an_option_for_one_way_beats_a_variable_for_another(self) -> None:
        loaded = config.load({"broker_url": URL}, {"CELERYSCOPE_APP": "proj"})
        assert (loaded.broker_url, loaded.app) == (URL, "")
        loaded = config.load({"app": "proj"}, {"CELERYSCOPE_BROKER_URL": URL})
        assert (loaded.broker_url, loaded.app) == ("", "proj")

    def test_two_ways_at_one_level_are_an_error_that_names_both(self) -> None:
        with pytest.raises(ConfigError, match=r"--broker-url and option --app.*leave one"):
            config.load({"broker_url": URL, "app": "proj"}, {})
        with pytest.raises(ConfigError, match=r"CELERYSCOPE_BROKER_URL_FILE and variable CELERYSCOPE_APP"):
            config.load({}, {"CELERYSCOPE_BROKER_URL_FILE": "x", "CELERYSCOPE_APP": "proj"})

    def test_none_at_all_is_an_error_that_names_the_three_ways(self) -> None:
        with pytest.raises(ConfigError, match=r"--broker-url URL.*--broker-url-file FILE.*-A APP"):
            config.load({}, {})

    def test_a_url_from_a_file_loses_its_newline(self, tmp_path: Path) -> None:
        file = tmp_path / "url"
        file.write_text(f"{URL}\n")
        loaded = config.load({"broker_url_file": str(file)}, {})
        assert (loaded.broker_url, loaded.broker_url_file) == (URL, file)

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b"redis://:hunter22@a\nredis://:hunter22@b\n", b"\xff\xfehunter22"]
    )
    def test_a_bad_url_file_is_named_and_its_content_is_not(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "url"
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"--broker-url-file, must hold one line") as caught:
            config.load({"broker_url_file": str(file)}, {})
        assert str(file) in str(caught.value)
        assert "hunter22" not in str(caught.value)

    def test_a_url_file_that_is_not_there_is_named_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere, from option .*No such file"):
            config.load({"broker_url_file": str(tmp_path / "nowhere")}, {})

    def test_a_wrong_url_is_no_error_here_since_the_exporter_goes_on_serving(self) -> None:
        assert load(broker_url="nonsense").broker_url == "nonsense"

    def test_secrets_stay_out_of_the_repr(self) -> None:
        loaded = load(broker_url="redis://:hunter22@h/0", broker_transport_options=("password=hunter23",))
        assert "hunter2" not in repr(loaded)


NOT_ALLOWED: dict[str, tuple[object, ...]] = {
    "task_ttl": ("0", "-1", "1w", "nan", "inf", "1e3", "", "4000d", True, 0, [1], float("nan"), 10**400),
    "max_message_bytes": ("0", "1.5", "4 Mb", "-1", 1.5, False),
    "max_sent_tasks": ("0", "1.0", "1_", "1k", 2.0, True, 10**10),
    "runtime_buckets": ("", "1,1", "2,1", "0,1", "1,x", [], ["a"], [1, True], 5, list(range(1, 200)), [10**400]),
    "listen_address": ("9808", "h:", "::1:9808", "h:65536", "[::1]", "http://h:1", 9808),
    "accept_content": ("pickle", "json,yaml", [], ""),
    "rate_limit_exceptions": ("a b", "A;B", ["1x"], [1]),
    "prefetch_histogram": ("maybe", 1),
    "log_level": ("trace", 10),
    "event_exchange": ("",),
    "app": ("  ",),
    "task_include": (("a(",), ["a", "[z"], 5, [1], [""], ("a{99999999999}",)),
    "queue_exclude": ("*",),
    "task_rename": (("a=>b", "c"), "=>b", ["(=>b"], [r"a=>\1"], [r"a=>\g<x>"], 5),
    "queue_wait_objective": ("0", "1w"),
    "broker_transport_options": (("novalue",), ("=1",), "[1]", 1),
}


class TestBadSettings:
    def test_the_error_names_key_value_origin_and_what_is_allowed(self, tmp_path: Path) -> None:
        assert error_of(log_level="loud") == (
            'log_level cannot be "loud", from option --log-level: must be one of debug, info, warning, error'
        )
        assert "from variable CELERYSCOPE_SERIES_LIMIT: must be a whole number" in error_of(
            environ={"CELERYSCOPE_SERIES_LIMIT": "many"}
        )
        assert f"from task_ttl in {tmp_path}/celeryscope.toml: must be a duration" in error_of(
            "task_ttl = true", tmp_path=tmp_path
        )

    def test_a_secret_value_is_not_shown(self) -> None:
        message = error_of(environ={"CELERYSCOPE_BROKER_TRANSPORT_OPTIONS": "password=hunter22"})
        assert "hunter22" not in message
        assert "a JSON object (variable)" in message

    def test_a_url_in_the_wrong_place_is_masked(self) -> None:
        assert "hunter22" not in error_of(listen_address="redis://:hunter22@h:6379/0")

    def test_a_long_value_is_cut(self) -> None:
        assert len(error_of(log_format="x" * 10_000)) < 300

    @pytest.mark.parametrize(
        ("toml", "suggestion"),
        [
            ("worker_timout = 1", "did you mean worker_timeout?"),
            ("worker-timeout = 1", "did you mean worker_timeout?"),
            ("[celery]\nx = 1", "keys are options with _ for -"),
        ],
    )
    def test_an_unknown_key_of_the_file_is_an_error(self, tmp_path: Path, toml: str, suggestion: str) -> None:
        message = error_of(toml, tmp_path=tmp_path)
        assert message.startswith("unknown key ")
        assert suggestion in message
        assert "celeryscope.toml" in message

    def test_an_unknown_option_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="did you mean log_level"):
            load(log_levle="info")

    def test_a_file_that_cannot_be_read_or_is_not_toml_is_named(self, tmp_path: Path) -> None:
        assert "is not TOML" in error_of("a = = 1", tmp_path=tmp_path)
        with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file"):
            config.load(BROKER, {}, tmp_path / "nowhere.toml")

    def test_a_solo_worker_is_not_lost_before_others(self) -> None:
        assert "must not be below worker_timeout" in error_of(worker_timeout="2h")

    @pytest.mark.parametrize(
        ("key", "value"), [(key, value) for key, values in NOT_ALLOWED.items() for value in values]
    )
    def test_what_is_not_allowed_is_an_error(self, key: str, value: object) -> None:
        options: dict[str, Any] = {key: value}
        assert error_of(**options).startswith(f"{key} cannot be ")

    def test_infinity_in_buckets_is_said_to_be_there_already(self) -> None:
        assert "+Inf is there by itself" in error_of(wait_buckets="1,2,+Inf")


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [
        ("task_ttl", "90", 90.0),
        ("task_ttl", 90, 90.0),
        ("task_ttl", "500ms", 0.5),
        ("task_ttl", "1.5 h", 5400.0),
        ("task_ttl", "1d", 86400.0),
        ("max_message_bytes", "4MiB", 4 * 2**20),
        ("max_message_bytes", "1.5 kB", 1500),
        ("max_message_bytes", 100, 100),
        ("max_sent_tasks", "1_000", 1000),
        ("runtime_buckets", "0.1, 1,5m", (0.1, 1.0, 300.0)),
        ("runtime_buckets", [1, 2.5, "1h"], (1.0, 2.5, 3600.0)),
        ("listen_address", ":9808", Address("", 9808)),
        ("listen_address", "localhost:0", Address("localhost", 0)),
        ("listen_address", "[::1]:9808", Address("::1", 9808)),
        ("accept_content", "JSON,msgpack", ("json", "msgpack")),
        ("accept_content", ["msgpack"], ("msgpack",)),
        ("rate_limit_exceptions", "openai.RateLimitError, TooMany", ("RateLimitError", "TooMany")),
        ("prefetch_histogram", "Yes", True),
        ("prefetch_histogram", "off", False),
        ("task_include", (r"a\..*", "b"), (re.compile(r"a\..*"), re.compile("b"))),
        ("task_exclude", "a{1,2}\n b \n\n", (re.compile("a{1,2}"), re.compile("b"))),
        ("queue_include", ["a"], (re.compile("a"),)),
        ("task_rename", (r"_\d+ => _N",), (Rename(re.compile(r"_\d+"), "_N"),)),
        ("task_rename", (r"(?=>)x=>",), (Rename(re.compile(r"(?=>)x"), ""),)),
        ("queue_wait_objective", "2h", 7200.0),
        ("broker_transport_options", ("a=1", "b=x=y", 'c={"d": [1]}'), {"a": 1, "b": "x=y", "c": {"d": [1]}}),
        ("broker_transport_options", '{"a": 1}', {"a": 1}),
        ("broker_transport_options", {"a": 1}, {"a": 1}),
    ],
)
def test_what_is_allowed_becomes_a_typed_value(key: str, value: object, parsed: object) -> None:
    assert getattr(config.load({**BROKER, key: value}, {}), key) == parsed


def test_an_address_is_shown_as_it_is_written() -> None:
    assert str(Address("::1", 9808)) == "[::1]:9808"
    assert str(Address("127.0.0.1", 9808)) == "127.0.0.1:9808"


class TestPatterns:
    def test_the_error_names_the_expression_and_what_is_wrong_with_it(self) -> None:
        message = error_of(task_include=["fine", r"bad\.("])
        assert message.startswith("task_include cannot be ")
        assert r'"bad\.(" is none: missing ), unterminated subpattern at position 5' in message
        message = error_of(task_rename=(r"_\d+=>\2",))
        assert r'"_\d+=>\2" has a wrong replacement: invalid group reference 2' in message
        assert '"only" has no => behind an expression' in error_of(task_rename=("only",))

    def test_double_quotes_in_the_file_are_told_apart_from_single_ones(self, tmp_path: Path) -> None:
        assert "between single quotes" in error_of('task_include = ["a\\.b"]', tmp_path=tmp_path)
        assert load("task_include = ['a\\.b']", tmp_path=tmp_path).task_include == (re.compile(r"a\.b"),)


class TestTables:
    def test_say_what_is_expected_of_tasks_and_queues(self, tmp_path: Path) -> None:
        toml = """
        queue_wait_objective = "10m"
        [task."proj.add"]
        success_ratio = 0.999
        wait = "30s"
        wait_ratio = 0.95
        runtime = 2.5
        expected_interval = "1d"
        runtime_buckets = [1, 2.5, "10s"]
        [task."proj.*"]
        [queue."slow"]
        allowed_wait = "2h"
        """
        loaded = load(toml, tmp_path=tmp_path)
        assert loaded.queue_wait_objective == 600.0
        assert loaded.objectives.tasks.values == {
            "proj.add": TaskObjectives(
                success_ratio=0.999,
                wait=30.0,
                wait_ratio=0.95,
                runtime=2.5,
                expected_interval=86_400.0,
                runtime_buckets=(1.0, 2.5, 10.0),
            ),
            "proj.*": TaskObjectives(),
        }
        assert loaded.objectives.queues.values == {"slow": QueueObjectives(allowed_wait=7_200.0)}

    def test_globs_keep_the_order_of_the_file(self, tmp_path: Path) -> None:
        toml = '[task."*.b"]\nruntime = 1\n[task."a.*"]\nruntime = 2\n[task."a.c"]\nruntime = 3'
        tasks = load(toml, tmp_path=tmp_path).objectives.tasks
        found = [tasks.get(name) for name in ("a.b", "a.x", "a.c")]
        assert [one.runtime for one in found if one is not None] == [1.0, 2.0, 3.0]

    def test_exist_in_the_file_alone(self) -> None:
        with pytest.raises(ConfigError, match="unknown option objectives"):
            load(objectives={})
        assert load(environ={"CELERYSCOPE_OBJECTIVES": "x"}).objectives.tasks.values == {}

    @pytest.mark.parametrize(
        ("toml", "told"),
        [
            (
                '[task."a.b"]\nsucess_ratio = 0.9',
                'unknown key "sucess_ratio" in [task."a.b"] in FILE; did you mean success_ratio?',
            ),
            ('[queue."q"]\nwait = 5', 'unknown key "wait" in [queue."q"] in FILE; known are allowed_wait'),
            (
                '[task."a.b"]\nsuccess_ratio = 99.9',
                'success_ratio cannot be 99.9, from [task."a.b"] in FILE: must be a ratio above 0 and below 1, '
                "such as 0.99; 99.9 % is 0.999",
            ),
            (
                '[task."a.b"]\nruntime_buckets = [2, 1]',
                "separated by commas; 1 comes after 2",
            ),
            (
                '[queue."q"]\nallowed_wait = "1w"',
                'allowed_wait cannot be "1w", from [queue."q"] in FILE: must be a duration',
            ),
            (
                '[task."a.b"]\nwait_ratio = 0.9',
                'wait_ratio stands alone in [task."a.b"] in FILE: wait must say how long is good',
            ),
            (
                "[task.a.b]\nwait = 5",
                '[task.a.b] in FILE is a table in a table: a name stands in quotes, as in [task."a.b"]',
            ),
            ("[task]\nwait = 5", 'key "wait" stands in [task] itself, in FILE: what is said of a task'),
            ('queue = "q"', 'queue cannot be "q", in FILE: what is said of a queue stands in a table'),
            ('[[task]]\nname = "a"', "what is said of a task stands in a table with its name"),
            ('[tasks."a"]\nwait = 5', 'unknown key "tasks" in FILE; did you mean task?'),
        ],
    )
    def test_an_error_names_file_table_and_key(self, tmp_path: Path, toml: str, told: str) -> None:
        assert told in error_of(toml, tmp_path=tmp_path).replace(str(tmp_path / "celeryscope.toml"), "FILE")

    @pytest.mark.parametrize("ratio", ["0", "1", "1.0", "0.0", "-0.5", '"0.9"', "true", "nan", "100"])
    def test_a_ratio_lies_between_0_and_1(self, tmp_path: Path, ratio: str) -> None:
        assert "success_ratio cannot be " in error_of(f'[task."a"]\nsuccess_ratio = {ratio}', tmp_path=tmp_path)


class TestUnknownVariables:
    def test_a_near_miss_is_told_with_a_suggestion(self) -> None:
        assert config.unknown_variables({"CELERYSCOPE_LOGLEVEL": "debug", "HOME": "/"}) == [
            "the variable CELERYSCOPE_LOGLEVEL is not known and ignored; did you mean CELERYSCOPE_LOG_LEVEL?"
        ]

    def test_settings_and_the_demos_variables_are_known(self) -> None:
        known = [setting.variable for setting in SETTINGS.values()] + [
            "CELERYSCOPE_CONFIG",
            "CELERYSCOPE_DEMO_X",
        ]
        assert config.unknown_variables(dict.fromkeys(known, "x")) == []

    def test_what_kubernetes_sets_for_a_service_is_no_mistake(self) -> None:
        service = {
            "CELERYSCOPE_SERVICE_HOST": "10.0.0.1",
            "CELERYSCOPE_SERVICE_PORT": "9808",
            "CELERYSCOPE_SERVICE_PORT_HTTP": "9808",
            "CELERYSCOPE_PORT": "tcp://10.0.0.1:9808",
            "CELERYSCOPE_PORT_9808_TCP_ADDR": "10.0.0.1",
            "CELERYSCOPE_WEB_SERVICE_HOST": "10.0.0.2",
            "CELERYSCOPE_WEB_PORT": "tcp://10.0.0.2:1",
        }
        assert config.unknown_variables(service) == []
        assert len(config.unknown_variables({"CELERYSCOPE_LISTEN_PORT": "1"})) == 1


class TestQueues:
    def test_they_are_named_by_options_a_variable_or_an_array(self, tmp_path: Path) -> None:
        assert load(queues=("a", "b,c")).queues == ("a", "b,c")
        assert load(environ={"CELERYSCOPE_QUEUES": "a, b ,a"}).queues == ("a", "b")
        assert load('queues = ["a", "b"]', tmp_path=tmp_path).queues == ("a", "b")
        assert SETTINGS["queues"].flags == ("--queue",)

    def test_a_queue_key_is_one_of_tables(self, tmp_path: Path) -> None:
        assert 'such as [queue."NAME"]' in error_of('queue = ["a"]', tmp_path=tmp_path)

    @pytest.mark.parametrize("key", ["queues_poll_interval", "workers_poll_interval"])
    def test_what_is_polled_outlives_two_polls(self, key: str) -> None:
        interval: dict[str, Any] = {key: "2m"}
        message = error_of(**interval)
        assert message == f"poll_stale_after is 120 s: must be at least 2 times {key}, which is 120 s"
        assert load(**interval, poll_stale_after="4m").poll_stale_after == 240.0


class TestManagementUrl:
    URL = "https://watcher:hunter2@rabbit:15672"

    def test_it_is_a_url_or_in_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "url"
        file.write_text(f"{self.URL}\n")
        assert load(management_url=self.URL).management_url == self.URL
        assert load(management_url_file=str(file)).management_url == self.URL
        assert load().management_url == ""

    def test_not_both(self, tmp_path: Path) -> None:
        message = error_of(management_url=self.URL, management_url_file=str(tmp_path / "url"))
        assert message.startswith("the management API is given more than once, by option --management-url and option")

    def test_what_is_none_is_told_without_it(self, tmp_path: Path) -> None:
        file = tmp_path / "url"
        file.write_text("watcher:hunter2@rabbit")
        for message in (error_of(management_url="hunter2@rabbit"), error_of(management_url_file=str(file))):
            assert "hunter2" not in message
            assert "must be a URL such as https://USER:PASSWORD@HOST:15672" in message

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        message = error_of(management_url_file=str(tmp_path / "absent"))
        assert message.startswith(
            f"the management API URL's file {tmp_path / 'absent'}, from option --management-url-file"
        )

    def test_its_password_is_masked_wherever_it_is_shown(self) -> None:
        assert "hunter2" not in repr(load(management_url=self.URL))
        assert "hunter2" not in redact("refused hunter2")
