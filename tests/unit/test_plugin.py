"""`celery scope` as Celery finds it: its options, its help, and what it hands to the exporter."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command
from click.testing import CliRunner, Result

import celeryscope
from celeryscope import broker, logs
from celeryscope.config import SETTINGS, Config


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Any]]:
    """What the exporter is asked to run."""
    found: list[tuple[Config, Any]] = []

    def run(config: Config, project: Any = None) -> int:
        found.append((config, project))
        return 0

    module = SimpleNamespace(run=run)
    monkeypatch.setitem(sys.modules, "celeryscope.app", module)
    monkeypatch.setattr(celeryscope, "app", module, raising=False)
    monkeypatch.setattr(logs, "setup", lambda *_: None)
    monkeypatch.setattr("os.environ", {"COLUMNS": "80"})
    return found


@pytest.fixture
def project() -> Celery:
    return Celery("shop", broker="redis://h/1", set_as_current=False)


def invoke(project: Celery, *arguments: str) -> Result:
    """`celery -A shop scope ...`, with the app where its name would be."""
    return CliRunner().invoke(
        celery_command,
        ["scope", *arguments],
        default_map={"app": project},
        auto_envvar_prefix="CELERY",
        terminal_width=80,
    )


def test_the_app_is_handed_over_as_it_is(ran: list[tuple[Config, Any]], project: Celery) -> None:
    result = invoke(project, "--listen-address", ":9999", "--log-format", "json", "--queue", "a", "--queue", "b")
    assert (result.exit_code, result.output) == (0, "")
    ((config, handed),) = ran
    assert handed is project
    assert (config.app, config.broker_url) == ("shop", "")
    assert (config.listen_address.port, config.log_format, config.queues) == (9999, "json", ("a", "b"))


def test_the_app_wins_over_a_variable_and_a_file(
    ran: list[tuple[Config, Any]], project: Celery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('broker_url = "redis://file/0"\nlog_level = "debug"')
    monkeypatch.setattr(
        "os.environ", {"CELERYSCOPE_BROKER_URL": "redis://variable/0", "CELERYSCOPE_LISTEN_ADDRESS": ":1234"}
    )
    assert invoke(project, "--config", str(file)).exit_code == 0
    ((config, _),) = ran
    assert (config.app, config.broker_url) == ("shop", "")
    assert (config.log_level, config.listen_address.port) == ("debug", 1234)


@pytest.mark.parametrize("option", ["--broker-url", "--broker-url-file"])
def test_a_broker_beside_the_apps_is_refused_with_the_way_to_give_one(
    ran: list[tuple[Config, Any]], project: Celery, option: str
) -> None:
    result = invoke(project, option, "redis://:secret@h/0")
    assert result.exit_code == 2
    assert "celery -A APP -b URL scope" in result.output
    assert "secret" not in result.output
    assert not ran


@pytest.mark.parametrize(
    ("app", "said"), [("nowhere", "The module nowhere was not found."), ("broken", "ZeroDivisionError")]
)
def test_an_app_that_cannot_be_loaded_is_celerys_error(
    ran: list[tuple[Config, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(celery_command, ["-A", app, "scope"])
    assert (result.exit_code, ran) == (2, [])
    assert said in result.output


def test_a_wrong_setting_is_one_line(ran: list[tuple[Config, Any]], project: Celery) -> None:
    result = invoke(project, "--log-level", "loud")
    assert result.exit_code == 2
    assert result.output.startswith('celeryscope: error: log_level cannot be "loud", from option --log-level')


def test_settings_that_cannot_be_read_are_told_in_one_line(
    ran: list[tuple[Config, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeryscope.app.run", broker.celery_app)
    lazy = Celery("lazy", set_as_current=False)
    lazy.config_from_object("missing")
    result = invoke(lazy)
    assert result.exit_code == 2
    assert result.output.startswith("celeryscope: error: app cannot be 'lazy' (-A): loading it failed")
    assert result.output.count("\n") == 1


def test_options_that_a_project_adds_to_all_commands_are_not_ours(
    ran: list[tuple[Config, Any]], project: Celery
) -> None:
    import click

    project.user_options["preload"].add(click.Option(["--tenant"]))
    try:
        assert invoke(project, "--tenant", "x").exit_code == 0
    finally:
        for command in celery_command.commands.values():
            command.params[:] = [parameter for parameter in command.params if parameter.name != "tenant"]
    assert len(ran) == 1


def test_variables_of_the_celery_command_are_not_a_second_way(
    ran: list[tuple[Config, Any]], project: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {"CELERY_SCOPE_LOG_LEVEL": "debug"})
    assert invoke(project).exit_code == 0
    assert ran[0][0].log_level == "info"


def test_help_shows_examples_and_all_but_the_broker(ran: list[tuple[Config, Any]], project: Celery) -> None:
    short, full = invoke(project, "--help").output, invoke(project, "--help-all").output
    for output in (short, full):
        assert "celery -A proj scope" in output
        assert "--broker-url" not in output
        assert "one of the first three" not in output
        assert max(len(line) for line in output.splitlines()) <= 80
    for setting in SETTINGS.values():
        if setting.key not in {"broker_url", "broker_url_file", "app"}:
            assert setting.flags[-1] in full.replace("[no-]", "")


def test_every_celery_command_pays_next_to_nothing_for_it() -> None:
    program = (
        "import sys, celery.bin.celery\n"
        "before = set(sys.modules)\n"
        "assert 'scope' in celery.bin.celery.celery.commands\n"
        "print(*sorted(name for name in before if name.startswith('celeryscope')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["celeryscope", "celeryscope.plugin"]
