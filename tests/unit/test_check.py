"""The checks: how findings are ordered, told and counted, and what is judged where no server can be made to say it."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kombu import Connection

from celeryscope import cli, config
from celeryscope.broker import celery_app
from celeryscope.check import broker, command, events, look, queues, render
from celeryscope.check.answers import parse_answers, parse_broker, parse_settings, parse_tasks
from celeryscope.check.asking import Asking
from celeryscope.check.broker import is_local
from celeryscope.check.delivery import DEFAULT_VISIBILITY, visibility_timeout
from celeryscope.check.facts import Beat, Facts, Gap, Heard, WorkerBroker, WorkerFacts
from celeryscope.check.judge import CHECKS, report
from celeryscope.check.look import has_credentials
from celeryscope.check.model import Check, Finding, Found, Report, Severity, duration, findings, size, some
from celeryscope.check.surveying import read_heads
from celeryscope.clock import Moment, SystemClock
from celeryscope.config import no_colour
from celeryscope.errors import PollError
from celeryscope.pollers.mailbox import Commands, Replies
from celeryscope.pollers.redis_layout import Layout
from celeryscope.readings import BrokerReading, Head, QueueReading
from celeryscope.redaction import register
from celeryscope.rules.settings import THRESHOLDS

DOCS = Path(__file__).parents[2] / "docs/check.md"
NOTHING = Facts(
    now=1000.0,
    transport="redis",
    address="redis://h/0",
    local=True,
    credentials=False,
    own_visibility_timeout=None,
    wanted_queues=frozenset(),
    allowed_wait={},
)


def beat(at: float, pid: int = 1, *, behind: float = 0.0, processed: int = 0) -> Beat:
    return Beat(at, at - behind, pid, 0, processed, "5.7.0")


def heard(*beats: Beat, seconds: float = 5.0, proven: bool = True, task_events: int = 0) -> Facts:
    told = Heard(seconds, 1000.0, proven, {"a@h": beats} if beats else {}, {"a@h": task_events})
    return replace(NOTHING, heard=told, workers={})


def told(
    name: str = "a@h", *, queues: Sequence[str] = (), tasks: Sequence[str] = (), broker: object = None, pool: str = ""
) -> WorkerFacts:
    """What a worker is known to be by these answers of its."""
    answers = {
        "stats": {"pool": {"max-concurrency": 1, "implementation": pool}, "broker": broker},
        "active_queues": [{"name": queue} for queue in queues],
        "registered": list(tasks),
    }
    worker = parse_answers(name, answers, 0.0)
    assert worker is not None
    return worker


def codes(facts: Facts) -> set[str]:
    return {finding.code for finding in findings(CHECKS, facts)}


def finding(severity: Severity = Severity.ERROR, **how: str) -> Finding:
    words = {
        "code": "code",
        "subject": "queue a",
        "title": "title",
        "evidence": "seen",
        "consequence": "so",
        "remedy": "do",
    }
    return Finding(severity, **{**words, **how})


def of(*found: Finding, gaps: tuple[Gap, ...] = ()) -> Report:
    return Report("redis://h/0", found, gaps, 3, 2, 5.04)


class TestDocs:
    def test_every_check_has_a_section_that_tells_its_severities(self) -> None:
        sections = dict(re.findall(r"^### (\S+)\n\n(.+?)(?=\n#|\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL))
        assert set(sections) == {check.code for check in CHECKS}
        for check in CHECKS:
            told = set(re.findall(r"\*\*(\w+)\*\*", sections[check.code]))
            assert told == {severity.value for severity in check.severities}, check.code

    def test_every_key_of_the_json_is_told(self) -> None:
        told = set(re.findall(r"`(\w+)`", DOCS.read_text()))
        document = json.loads(render.as_json(of(finding(), gaps=(Gap("what", "why"),)), fails=True))
        assert document.keys() | document["findings"][0].keys() | document["not_looked_at"][0].keys() <= told

    def test_codes_are_unique(self) -> None:
        assert len({check.code for check in CHECKS}) == len(CHECKS)

    def test_thresholds_are_those_of_the_alerts(self) -> None:
        assert THRESHOLDS["memory_warning"].default == broker.MEMORY_BAD
        assert THRESHOLDS["memory_critical"].default == broker.MEMORY_WORST
        assert THRESHOLDS["message_bytes"].default == queues.LARGE
        assert THRESHOLDS["skew_seconds"].default == events.SKEW_BAD


class TestJudgement:
    def test_where_nothing_is_known_nothing_is_said(self) -> None:
        assert codes(NOTHING) == set()

    def test_silence_means_nothing_unless_we_would_have_heard(self) -> None:
        assert codes(heard()) == {"no-workers"}
        assert codes(heard(proven=False)) == set()

    def test_a_restart_is_no_second_worker_of_that_name(self) -> None:
        twins = [beat(990.0, 1), beat(991.0, 2), beat(992.0, 1)]
        assert "node-name-duplicate" in codes(heard(*twins))
        assert "node-name-duplicate" not in codes(heard(beat(990.0, 1), beat(991.0, 2), beat(992.0, 2)))

    def test_skew_is_the_least_delay_of_two_heartbeats(self) -> None:
        assert "clock-skew" not in codes(heard(beat(990.0, behind=9.0), beat(992.0, behind=0.1)))
        assert "clock-skew" not in codes(heard(beat(990.0, behind=9.0)))
        found = findings(CHECKS, heard(beat(990.0, behind=-2.0), beat(992.0, behind=-2.0)))
        assert [(each.code, each.severity) for each in found] == [("clock-skew", Severity.INFO)]
        assert "2 s ahead of this machine's" in found[0].evidence

    def test_a_mute_worker_is_told_and_one_that_fell_silent_is_a_gap(self) -> None:
        facts = replace(heard(beat(990.0), beat(992.0)), mute=frozenset({"a@h"}))
        assert "worker-mute" in codes(facts)
        facts = replace(facts, mute=frozenset(), silent=frozenset({"a@h"}))
        assert "worker-mute" not in codes(facts)
        assert [gap.what for gap in report(facts, 1.0).gaps] == ["worker a@h (a@h)"]

    def test_the_worst_comes_first_and_else_the_order_of_the_checks(self) -> None:
        def made(code: str, severity: Severity) -> Check:
            return Check(code, "title", (severity,), "so", "do", lambda _: [Found("x", "seen")])

        order = [Severity.INFO, Severity.ERROR, Severity.WARNING, Severity.ERROR]
        checks = [made(str(index), severity) for index, severity in enumerate(order)]
        assert [each.code for each in findings(checks, NOTHING)] == ["1", "3", "2", "0"]

    def test_many_findings_of_one_check_are_counted(self) -> None:
        def judge(_: Facts) -> list[Found]:
            return [Found(f"queue {number:02}", "seen") for number in range(25)]

        found = findings([Check("code", "title", (Severity.ERROR,), "so", "do", judge)], NOTHING)
        assert len(found) == 21
        assert (found[-1].subject, found[-1].severity) == ("5 more", Severity.ERROR)
        assert found[-1].evidence == "the same of queue 20, queue 21, queue 22 and 2 more"

    def test_workers_have_minutes_to_put_back_what_is_overdue(self) -> None:
        facts = replace(
            NOTHING,
            workers={"a@h": told()},
            broker=BrokerReading(oldest_unacked=1000.0 - 3700.0),
        )
        assert "unacked-overdue" not in codes(facts)
        assert "unacked-overdue" in codes(replace(facts, now=1300.0))

    def test_only_redis_and_amqp_tell_whether_they_have_tls(self) -> None:
        facts = replace(NOTHING, workers={"a@h": told(broker={"hostname": "h", "transport": "redis", "ssl": False})})
        assert "broker-without-tls" in codes(facts)
        assert "broker-without-tls" not in codes(replace(facts, transport="sqs"))

    def test_a_worker_whose_answers_are_of_no_use_is_a_worker(self) -> None:
        facts = replace(heard(), silent=frozenset({"a@h"}))
        assert codes(facts) == set()
        assert "no usable answer" in report(facts, 1.0).gaps[0].why

    def test_settings_that_did_not_come_make_the_look_incomplete(self) -> None:
        facts = replace(NOTHING, workers={"a@h": told()})
        found = report(facts, 1.0)
        assert found.incomplete
        assert [gap.what for gap in found.gaps] == ["settings of worker a@h (a@h)", "tasks held by worker a@h (a@h)"]
        solo = told(pool="celery.concurrency.solo:TaskPool")
        assert not report(replace(NOTHING, workers={"a@h": solo}), 1.0).incomplete

    def test_a_remedy_can_be_pasted_whatever_the_queue_is_called(self) -> None:
        name = "a; rm -rf /"
        facts = replace(NOTHING, workers={"a@h": told(queues=["b"])}, broker=BrokerReading((QueueReading(name, 1),)))
        remedies = [each.remedy for each in findings(CHECKS, facts) if each.code == "queue-without-workers"]
        assert remedies == [f"celery -A PROJ worker -Q '{name}', or celery -A PROJ control add_consumer '{name}'"]

    def test_workers_that_know_the_same_are_compared_once(self) -> None:
        workers = {f"{name}@h": told(f"{name}@h", queues=["x", "y"], tasks=[f"task.{name}"]) for name in "ab"}
        found = findings(CHECKS, replace(NOTHING, workers=workers))
        assert [each.subject for each in found if each.code == "tasks-differ"] == ["queue x"]

    def test_high_rates_are_written_out(self) -> None:
        workers = {f"{name}@h": told(f"{name}@h", tasks=["task [rate_limit=100/s]"]) for name in range(200)}
        found = [each for each in findings(CHECKS, replace(NOTHING, workers=workers)) if each.code[:4] == "rate"]
        assert found[0].evidence == "100/s in each of 200 workers that know it: up to 20000/s in all"

    @pytest.mark.parametrize(
        ("host", "local"),
        [
            ("localhost", True),
            ("127.0.0.2", True),
            ("::1", True),
            ("/run/valkey.sock", True),
            ("socket:///run/valkey.sock", True),
            ("redis+socket:///run/valkey.sock", True),
            ("10.0.0.1", False),
            ("h", False),
        ],
    )
    def test_which_hosts_are_this_machine(self, host: str, local: bool) -> None:
        assert is_local(host) is local


class TestAnswers:
    def test_settings_of_before_celery_4_have_other_names(self) -> None:
        told = parse_settings({"CELERY_TIMEZONE": "Asia/Tokyo", "ENABLE_UTC": True, "CELERY_TASK_RESULT_EXPIRES": None})
        assert told is not None
        assert (told.timezone, told.results_expire) == ("Asia/Tokyo", False)

    @pytest.mark.parametrize("answer", [None, [], {}, "x", {"error": "no"}])
    def test_what_is_no_answer_to_conf(self, answer: object) -> None:
        assert parse_settings(answer) is None

    def test_tasks_with_and_without_settings_of_their_own(self) -> None:
        told = parse_tasks(["a [rate_limit=6/m time_limit=3 acks_late=True send_events=False]", "b"])
        assert told is not None
        assert (told["a"].rate_limit, told["a"].time_limit, told["a"].acks_late, told["a"].send_events) == (
            0.1,
            3.0,
            True,
            False,
        )
        assert (told["b"].rate_limit, told["b"].time_limit, told["b"].acks_late, told["b"].send_events) == (
            None,
            None,
            False,
            True,
        )
        assert parse_tasks({"error": "x"}) is None

    @pytest.mark.parametrize("number", [float("nan"), True, "60", [], {}])
    def test_what_is_no_number_of_seconds(self, number: object) -> None:
        worker = told(broker={"transport_options": {"visibility_timeout": number}})
        assert visibility_timeout(worker) == DEFAULT_VISIBILITY

    def test_numbers_without_end(self) -> None:
        for number in (float("inf"), 10**400):
            assert visibility_timeout(told(broker={"transport_options": {"visibility_timeout": number}})) == 2**53
        facts = replace(NOTHING, workers={"a@h": told(tasks=["a [time_limit=inf acks_late=True]"])})
        assert "visibility-timeout-short" in codes(facts)

    def test_a_transport_that_is_no_text(self) -> None:
        assert parse_broker({"hostname": 1, "transport": ["redis"], "ssl": 0}) == WorkerBroker(None, False, {})

    def test_secrets_in_a_workers_statistics_are_left_there(self) -> None:
        options = {"visibility_timeout": 60, "password": "correct-horse"}
        stats = {
            "pool": {"max-concurrency": 1},
            "broker": {"hostname": "h", "ssl": False, "transport_options": options},
        }
        told = parse_answers("a@h", {"stats": stats}, 0.0)
        assert told is not None
        assert "correct-horse" not in repr(told)
        assert "60" in repr(told)


class TestText:
    def test_a_finding(self) -> None:
        text = render.text(of(finding(evidence="5 messages in it")), width=80, colour=False)
        assert text == (
            "error    queue a: title [code]\n"
            "  seen   5 messages in it\n"
            "  means  so\n"
            "  do     do\n"
            "\n"
            "1 error: 3 workers, 2 queues looked at in 5.0 s\n"
        )

    def test_nothing_wrong(self) -> None:
        text = render.text(of(), width=80, colour=False)
        assert text == "nothing found wrong: 3 workers, 2 queues looked at in 5.0 s\n"

    def test_what_was_not_looked_at_is_told(self) -> None:
        text = render.text(of(gaps=(Gap("workers", "no answer in time", unexpected=True),)), width=80, colour=False)
        assert text.startswith("not looked at\n  workers: no answer in time\n")

    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    def test_lines_are_no_wider_than_the_terminal(self, width: int) -> None:
        long = finding(evidence="word " * 60, consequence="word " * 60, remedy="word " * 60, title="word " * 30)
        text = render.text(of(long, gaps=(Gap("what", "why " * 60),)), width=width, colour=False)
        assert max(map(len, text.splitlines())) <= width

    def test_colour_is_all_that_colour_adds(self) -> None:
        found = of(*(finding(severity) for severity in Severity), gaps=(Gap("a", "b"),))
        coloured = render.text(found, width=80, colour=True)
        assert "\033[" in coloured
        assert re.sub(r"\033\[[0-9;]*m", "", coloured) == render.text(found, width=80, colour=False)

    def test_names_cannot_command_the_terminal(self) -> None:
        text = render.text(of(finding(subject="queue \033[2J\a\rx")), width=80, colour=True)
        assert "\033[2J" not in text
        assert "\a" not in text
        assert "\r" not in text

    def test_secrets_are_masked(self) -> None:
        register("correct-horse-battery")
        found = of(finding(evidence="correct-horse-battery"), gaps=(Gap("x", "redis://u:correct-horse-battery@h"),))
        assert "correct-horse" not in render.text(found, width=80, colour=False) + render.as_json(found, True)

    def test_secrets_that_json_escapes_are_masked(self) -> None:
        register('p\u00e4ss"w\u00f6rd-horse')
        text = render.as_json(of(finding(evidence='it is p\u00e4ss"w\u00f6rd-horse')), True)
        assert json.loads(text)["findings"][0]["evidence"] == "it is ***"
        assert "rd-horse" not in render.error_as_json('p\u00e4ss"w\u00f6rd-horse')

    def test_no_color(self) -> None:
        assert [no_colour({}), no_colour({"NO_COLOR": ""}), no_colour({"NO_COLOR": "1"})] == [False, False, True]

    def test_numbers_as_a_person_says_them(self) -> None:
        assert [duration(s) for s in (0.5, 4.25, 30, 600, 10_800, 400_000)] == [
            "0.5 s",
            "4.2 s",
            "30 s",
            "10 min",
            "3.0 h",
            "4.6 d",
        ]
        assert [size(n) for n in (5, 2048, 300_000_000, 3 * 2**30)] == ["5 B", "2 KiB", "286 MiB", "3 GiB"]
        assert [some("ba"), some("abcde")] == ["a, b", "a, b, c and 2 more"]


class Looked:
    """Stands in for a look: it has seen what it is told."""

    def __init__(self, facts: Facts | None = None, error: str = "") -> None:
        self._facts, self._error = facts, error

    def __call__(self, *_: object) -> "Looked":
        return self

    def facts(self) -> Facts:
        if self._facts is None:
            raise PollError(self._error)
        return self._facts


WARNED = heard(beat(990.0, behind=9.0), beat(992.0, behind=9.0))
INCOMPLETE = replace(NOTHING, gaps=(Gap("workers", "no answer in time", unexpected=True),))
EXPECTED = replace(NOTHING, gaps=(Gap("workers", "--passive"),))


def check(monkeypatch: pytest.MonkeyPatch, looked: Looked, *arguments: str) -> Result:
    monkeypatch.setattr(command, "Look", looked)
    monkeypatch.delenv("CELERYSCOPE_TESTS_NO_SKIP", raising=False)  # it is no setting, and would be warned of
    return CliRunner().invoke(
        cli.celeryscope, ["check", "--broker-url", "redis://h/0", *arguments], prog_name="celeryscope"
    )


class Answering:
    """Stands in for the mailbox: it answers in turn, with each answer for some of what was asked."""

    def __init__(self, *answers: Replies) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[list[str], Sequence[str] | None, float]] = []

    def ask(self, commands: Commands, destination: Sequence[str] | None, *, at_most: float) -> Replies:
        self.asked.append((list(commands), destination, at_most))
        return self._answers.pop(0)

    def close(self) -> None:
        pass


class Stopped:
    """A clock that stands still."""

    def now(self) -> Moment:
        return Moment(wall=1000.0, elapsed=100.0)


STATS = {"pool": {"max-concurrency": 1}, "prefetch_count": 1}
TOLD = {"stats": STATS, "active_queues": [], "registered": []}


class TestAsking:
    def test_what_a_worker_has_not_answered_is_asked_again(self) -> None:
        half = {"stats": STATS}
        lists: dict[str, object] = {"active": [], "reserved": [], "scheduled": []}
        mailbox = Answering(
            {"a@h": TOLD, "b@h": half},
            {"a@h": lists, "b@h": lists},
            {"a@h": {"conf": {"timezone": "UTC"}}},
            {"b@h": TOLD},
        )
        asking = Asking(mailbox, Stopped(), 110.0)  # type: ignore[arg-type]
        asking.ask()
        assert asking.lacking(()) == {"b@h"}
        assert asking.lacking({"a@h", "c@h"}) == {"b@h", "c@h"}
        asking.ask_again({"b@h"})
        assert [asked[:2] for asked in mailbox.asked] == [
            (["stats", "active_queues", "registered"], None),
            (["scheduled", "reserved", "active"], ["a@h", "b@h"]),
            (["conf"], ["a@h", "b@h"]),
            (["active_queues", "registered", "conf"], ["b@h"]),
        ]
        assert (asking.workers["b@h"].tasks, asking.workers["b@h"].reading.holds_listed) == ({}, True)
        assert asking.workers["b@h"].settings is None

    def test_no_answer_is_waited_for_when_time_is_over(self) -> None:
        mailbox = Answering({"a@h": TOLD}, {}, {})
        Asking(mailbox, Stopped(), 100.5).ask()  # type: ignore[arg-type]
        assert {at_most for _, _, at_most in mailbox.asked} == {0.5}
        late = Answering()
        Asking(late, Stopped(), 100.0).ask()  # type: ignore[arg-type]
        assert late.asked == []

    def test_an_answer_that_is_of_no_use(self) -> None:
        asking = Asking(Answering({"a@h": {"stats": "no"}}, {}, {}), Stopped(), 110.0)  # type: ignore[arg-type]
        asking.ask()
        assert asking.workers == {}
        assert asking.unusable == {"a@h"}


class FailingLater(Asking):
    """One worker answers; the second question fails."""

    def ask(self) -> None:
        self.workers["a@h"] = told()

    def lacking(self, _: object) -> set[str]:
        return {"a@h"}

    def ask_again(self, _: object) -> None:
        raise PollError("the broker has gone")


class TestLook:
    def test_what_came_before_a_question_failed_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(look, "Asking", FailingLater)
        monkeypatch.setattr(look, "LISTEN", 0.0)
        monkeypatch.setattr(look, "ASK_AGAIN", 0.0)
        configuration = config.load({"broker_url": "memory://"}, environ={})
        facts = look.Look(configuration, celery_app(configuration), SystemClock()).facts()
        assert facts.workers is not None
        assert facts.workers.keys() == {"a@h"}
        assert Gap("workers", "the broker has gone", unexpected=True) in facts.gaps

    @pytest.mark.parametrize("value", ["abc", "[1]", "{}"])
    @pytest.mark.parametrize("name", ["visibility_timeout", "socket_timeout"])
    def test_a_transport_option_that_is_no_number(self, name: str, value: str) -> None:
        option = f"{name}={value}"
        arguments = ["check", "--broker-url", "redis://h", "--broker-transport-option", option, "--json"]
        result = CliRunner().invoke(cli.celeryscope, arguments)
        assert (result.exit_code, "it is a number of seconds" in json.loads(result.stdout)["error"]) == (2, True)

    @pytest.mark.parametrize(
        ("url", "brings"),
        [
            ("redis://h", False),
            ("redis://:p@h", True),
            ("rediss://h?ssl_cert_reqs=required", False),
            ("rediss://h?ssl_cert_reqs=required&ssl_certfile=/x", True),
            ("redis://h?credential_provider=a.b", True),
        ],
    )
    def test_what_proves_who_we_are(self, url: str, brings: bool) -> None:
        assert has_credentials(Connection(url)) is brings

    def test_lists_behind_the_head_are_not_read(self) -> None:
        class Asked:
            layout = Layout("", ((0, ""), (3, "-3"), (6, "-6")), "-", "_kombu.binding.", None, None, None)

            def ask(self, commands: Sequence[tuple[object, ...]]) -> list[object]:
                self.commands = commands
                return [None, b"{}"]

        link = Asked()
        reading = QueueReading("q", 3, {0: 0, 3: 1, 6: 2}, head=Head(None, 2))
        assert read_heads(link, {"q": reading}, Stopped()).by_queue.keys() == {"q"}  # type: ignore[arg-type]
        assert [command[1] for command in link.commands] == ["q", "q-3"]


class TestCommand:
    def test_what_a_project_prints_is_no_part_of_the_json(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(command, "Look", Looked(NOTHING))
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "printing_project.py").write_text(
            "from celery import Celery\nprint('loading')\napp = Celery(broker='redis://h', set_as_current=False)\n"
        )
        result = CliRunner().invoke(cli.celeryscope, ["check", "-A", "printing_project", "--json"])
        assert (json.loads(result.stdout)["failed"], "loading" in result.stderr) == (False, True)

    def test_a_variable_that_is_misspelt_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERYSCOPE_QUEU", "x")
        assert "CELERYSCOPE_QUEU is not known" in check(monkeypatch, Looked(NOTHING)).stderr

    def test_an_error_cannot_command_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "\a" not in check(monkeypatch, Looked(error="it said \a")).stderr

    @pytest.mark.parametrize(
        ("facts", "arguments", "code"),
        [
            (NOTHING, (), 0),
            (EXPECTED, (), 0),
            (INCOMPLETE, (), 2),
            (WARNED, (), 0),
            (WARNED, ("--fail-on", "warning"), 1),
            (WARNED, ("--fail-on", "info"), 1),
            (heard(), (), 1),
            (replace(heard(), gaps=INCOMPLETE.gaps), (), 1),
        ],
    )
    def test_the_exit_code(
        self, monkeypatch: pytest.MonkeyPatch, facts: Facts, arguments: tuple[str, ...], code: int
    ) -> None:
        assert check(monkeypatch, Looked(facts), *arguments).exit_code == code
        told = check(monkeypatch, Looked(facts), *arguments, "--json")
        assert (told.exit_code, json.loads(told.stdout)["failed"]) == (code, code == 1)

    def test_json_says_what_text_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = json.loads(check(monkeypatch, Looked(WARNED), "--json").stdout)
        text = " ".join(check(monkeypatch, Looked(WARNED)).stdout.split())
        assert told["counts"] == {"error": 0, "warning": 1, "info": 0}
        for key in ("severity", "code", "subject", "title", "evidence", "consequence", "remedy"):
            assert told["findings"][0][key] in text

    @pytest.mark.parametrize("arguments", [(), ("--json",)])
    def test_a_broker_that_cannot_be_reached(self, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
        result = check(monkeypatch, Looked(error="refused"), *arguments)
        assert (result.exit_code, result.stderr) == (2, "celeryscope: error: refused\n")
        assert result.stdout == "" if not arguments else json.loads(result.stdout)["error"] == "refused"

    def test_settings_that_do_not_fit(self) -> None:
        runner = CliRunner()
        result = runner.invoke(
            cli.celeryscope, ["check", "--broker-url", "redis://h", "--management-url", "http://h:1"]
        )
        assert (result.exit_code, "management_url is RabbitMQ's" in result.stderr) == (2, True)
        assert runner.invoke(cli.celeryscope, ["check", "--fail-on", "fatal"]).exit_code == 2

    def test_its_help_fits_a_screen_and_names_its_own_settings_alone(self) -> None:
        result = CliRunner().invoke(cli.celeryscope, ["check", "--help"], terminal_width=80)
        assert len(result.stdout.splitlines()) <= 35
        everything = CliRunner().invoke(cli.celeryscope, ["check", "--help-all"]).stdout
        assert "--queue-wait-objective" in everything
        assert "--[no-]passive" in everything
        assert "--listen-address" not in everything
        assert "--enable-events" not in everything
