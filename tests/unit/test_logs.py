"""Log lines: one per record, parseable whatever they say, and without credentials."""

import json
import logging
import logging.config
import sys
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from celeryscope import logs
from celeryscope.logs import JsonFormatter, LogfmtFormatter
from celeryscope.redaction import Redactor, redact, register


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("celeryscope.app", logging.INFO, "file.py", 1, message, args, exc_info)
    made.created = 1767225600.0625
    made.threadName = "celeryscope-web"
    return made


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


class TestLines:
    def test_logfmt_has_its_fields_in_order(self) -> None:
        assert LogfmtFormatter().format(record("served %d", 3)) == (
            'ts=2026-01-01T00:00:00.062Z level=info logger=celeryscope.app thread=celeryscope-web msg="served 3"'
        )

    def test_json_has_the_same_fields(self) -> None:
        assert json.loads(JsonFormatter().format(record("served %d", 3))) == {
            "ts": "2026-01-01T00:00:00.062Z",
            "level": "info",
            "logger": "celeryscope.app",
            "thread": "celeryscope-web",
            "msg": "served 3",
        }

    @pytest.mark.parametrize(
        "hostile",
        ['a"b', "a\nlevel=error", "\x1b[31mred", "\x00\x7f\x9b", "\u2028\u202e", "a\\", "\ud800", "zürich"],
    )
    def test_any_text_stays_on_one_line_and_comes_back_whole(self, hostile: str) -> None:
        as_json, logfmt = (f.format(record("%s", hostile)) for f in (JsonFormatter(), LogfmtFormatter()))
        assert (as_json + logfmt).isprintable()
        assert (as_json + logfmt).encode()
        assert json.loads(as_json)["msg"] == hostile
        assert json.loads(logfmt.partition(" msg=")[2]) == hostile

    def test_a_thread_with_spaces_is_quoted(self) -> None:
        made = record("x")
        made.threadName = "Thread 1"
        assert ' thread="Thread 1" ' in LogfmtFormatter().format(made)

    def test_a_traceback_is_one_more_field(self) -> None:
        line = LogfmtFormatter().format(record("failed", error=raised("bad\nthing")))
        assert "\n" not in line
        assert 'exc="Traceback (most recent call last):\\n' in line
        assert line.endswith('ValueError: bad\\nthing"')

    def test_arguments_that_do_not_fit_are_shown_and_not_raised(self) -> None:
        assert "%d of %d ('x',)" in LogfmtFormatter().format(record("%d of %d", "x"))


class TestMasking:
    URL = "redis://:hunter2222@broker:6379/0"

    @pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()])
    def test_message_arguments_and_traceback_are_masked(self, formatter: logging.Formatter) -> None:
        for made in (
            record(self.URL),
            record("at %s", self.URL),
            record("x", error=raised(f"no {self.URL}")),
        ):
            line = formatter.format(made)
            assert "hunter2222" not in line
            assert "redis://:***@broker:6379/0" in line
        assert "hunter2222" not in formatter.format(record("%d %d", self.URL))

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
            ("to rediss://bob:pw@h/0?a=b, then", "to rediss://bob:***@h/0?a=b, then"),
            ("amqp://bob@corp:pw@h//", "amqp://bob@corp:***@h//"),
            ("redis://:p@w/x?y#z;q@h/0", "redis://:***@h/0"),
            ("redis://:p%40w@h/0", "redis://:***@h/0"),
            ("sentinel://:a@h1:1;sentinel://:b@h2:2/0", "sentinel://:***@h1:1;sentinel://:***@h2:2/0"),
            ("sentinel://:a@h1:1;h2:2/0", "sentinel://:***@h1:1;h2:2/0"),
            ("redis://h1/0;redis://:b@h2/0", "redis://h1/0;redis://:***@h2/0"),
            ("('redis://:pw@h/0',)", "('redis://:***@h/0',)"),
            ("redis+socket://:pw@/run/x.sock", "redis+socket://:***@/run/x.sock"),
            ("redis://h/0?password=pw&x=1", "redis://h/0?password=***&x=1"),
            ("redis://h:6379/0", "redis://h:6379/0"),
            ("redis://bob@h/0", "redis://bob@h/0"),
            ("celery@host:1 and http://h:80/metrics", "celery@host:1 and http://h:80/metrics"),
        ],
    )
    def test_urls_lose_their_passwords(self, text: str, masked: str) -> None:
        assert redact(text) == masked

    def test_a_list_of_sentinels_that_share_a_scheme_leaks_none(self) -> None:
        assert "pw" not in redact("sentinel://:pw1@h1:1;:pw2@h2:2;:pw3@h3:3")

    def test_a_registered_secret_is_masked_in_all_its_spellings(self) -> None:
        redactor = Redactor()
        secret = "a'b/c@d e\\f"
        redactor.register(secret)
        for spelling in (secret, quote(secret), quote(secret, safe=""), repr(secret)):
            assert "b/c" not in redactor.redact(f"<{spelling}>"), spelling
            assert "b%2F" not in redactor.redact(f"<{spelling}>"), spelling

    def test_an_encoded_secret_is_masked_decoded_too(self) -> None:
        redactor = Redactor()
        redactor.register("top%40secret")
        assert redactor.redact("user top@secret") == "user ***"

    def test_a_short_secret_is_masked_as_a_word_and_a_tiny_one_not(self) -> None:
        redactor = Redactor()
        redactor.register("guest")
        redactor.register("abc")
        assert redactor.redact("guest guests xguest abc") == "*** guests xguest abc"

    def test_the_longest_secret_wins(self) -> None:
        redactor = Redactor()
        redactor.register("password")
        redactor.register("password-2")
        assert redactor.redact("password-2") == "***"

    def test_the_passwords_of_a_list_of_urls_are_registered(self) -> None:
        redactor = Redactor()
        redactor.register_url("sentinel://:first-pw@h1:1;:other%2Fpw@h2:2")
        assert redactor.redact("first-pw other/pw h2") == "*** *** h2"

    def test_secrets_in_options_are_registered_at_any_depth(self) -> None:
        redactor = Redactor()
        redactor.register_options({"sentinel_kwargs": {"password": "deep-one"}, "unacked_key": "unacked"})
        assert redactor.redact("deep-one unacked") == "*** unacked"

    def test_a_long_text_takes_linear_time(self) -> None:
        text = "a" * 1_000_000 + " redis://x:" + "b" * 1_000_000
        assert redact(text) == text


@pytest.fixture
def _process_restored() -> Iterator[None]:
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in logs.THIRD_PARTIES)]
    kept = [(logger, logger.level) for logger in loggers]
    handlers, hooks = root.handlers[:], (sys.excepthook, threading.excepthook)
    root.handlers.clear()  # or the set-up would close pytest's
    yield
    root.handlers[:] = handlers
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    for logger, level in kept:
        logger.setLevel(level)


@pytest.mark.usefixtures("_process_restored")
class TestSetup:
    def test_lines_go_to_stderr_in_the_chosen_format(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info", "json")
        logging.getLogger("celeryscope.x").info("hello")
        logging.getLogger("celeryscope.x").debug("not this")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert json.loads(captured.err)["msg"] == "hello"

    def test_libraries_speak_from_warning_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("debug", "logfmt")
        for name in logs.THIRD_PARTIES:
            logging.getLogger(f"{name}.inner").info("chatter")
            logging.getLogger(f"{name}.inner").warning("matters")
        assert capsys.readouterr().err.count("\n") == len(logs.THIRD_PARTIES)

    def test_it_may_be_called_again(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.setup("info", "logfmt")
        logs.setup("error", "logfmt")
        logging.getLogger("kombu").warning("no")
        logging.getLogger("celeryscope").error("once")
        assert capsys.readouterr().err.count("\n") == 1

    def test_loggers_that_a_projects_own_logging_has_silenced_speak_again(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ours = logging.getLogger("celeryscope.somewhere")
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
        logs.setup()
        ours.warning("still here")
        assert "still here" in capsys.readouterr().err

    def test_an_error_that_ends_a_thread_or_the_process_is_one_masked_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        register("very-secret-literal")
        logs.setup()
        error = raised("very-secret-literal")
        sys.excepthook(ValueError, error, error.__traceback__)
        args = threading.ExceptHookArgs((ValueError, error, error.__traceback__, threading.current_thread()))
        threading.excepthook(args)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all("level=critical" in line and "ValueError: ***" in line for line in lines)
