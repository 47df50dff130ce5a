"""The command line: what it builds, what it prints, and how it ends."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

import celeryscope
from celeryscope import cli, logs
from celeryscope.config import SETTINGS, Config
from celeryscope.errors import ConfigError
from celeryscope.metrics import reference
from celeryscope.metrics.catalog import ALL, Kind, Spec
from celeryscope.values import Address

REPOSITORY = Path(__file__).parents[2]


class FakeApp:
    """Stands in for celeryscope.app: keeps what it is asked to run."""

    def __init__(self) -> None:
        self.ran: list[Config] = []
        self.code = 0
        self.error: Exception | None = None

    def run(self, config: Config, project: object = None) -> int:
        self.ran.append(config)
        if self.error:
            raise self.error
        return self.code


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    fake = FakeApp()
    module = SimpleNamespace(run=fake.run)
    monkeypatch.setitem(sys.modules, "celeryscope.app", module)
    monkeypatch.setattr(celeryscope, "app", module, raising=False)
    monkeypatch.setattr(logs, "setup", lambda *_: None)
    monkeypatch.setattr("os.environ", {})
    return fake


def invoke(*arguments: str, columns: int = 80) -> Result:
    return CliRunner().invoke(cli.celeryscope, arguments, prog_name="celeryscope", terminal_width=columns)


class TestRun:
    def test_options_become_the_configuration(self, app: FakeApp) -> None:
        result = invoke(
            *("run", "--broker-url", "redis://h/0", "--listen-address", "[::1]:0", "--worker-timeout", "1m"),
            *("--broker-transport-option", "a=1", "--broker-transport-option", "b=x", "--prefetch-histogram"),
        )
        assert (result.exit_code, result.output) == (0, "")
        (ran,) = app.ran
        assert ran.broker_url == "redis://h/0"
        assert ran.listen_address == Address("::1", 0)
        assert ran.worker_timeout == 60.0
        assert dict(ran.broker_transport_options) == {"a": 1, "b": "x"}
        assert ran.prefetch_histogram is True

    def test_with_an_app_as_celery_spells_it(self, app: FakeApp) -> None:
        invoke("run", "-A", "proj.celery")
        assert app.ran[0].app == "proj.celery"

    def test_with_a_file(self, app: FakeApp, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text('broker_url = "redis://h/0"\nprefetch_histogram = true\n[broker_transport_options]\nx = 1')
        invoke("run", "--config", str(file), "--no-prefetch-histogram")
        assert app.ran[0].broker_url == "redis://h/0"
        assert app.ran[0].prefetch_histogram is False
        assert dict(app.ran[0].broker_transport_options) == {"x": 1}

    def test_expressions_are_repeated_and_keep_their_commas(self, app: FakeApp) -> None:
        renames = ("--task-rename", "_[0-9]{1,3}$=>_N", "--task-rename", "a => b")
        invoke("run", "--broker-url", "redis://h/0", *renames, "--queue-exclude", "x{1,2}")
        assert [str(rename) for rename in app.ran[0].task_rename] == ["_[0-9]{1,3}$=>_N", "a=>b"]
        assert [pattern.pattern for pattern in app.ran[0].queue_exclude] == ["x{1,2}"]

    def test_the_exit_code_is_the_apps(self, app: FakeApp) -> None:
        app.code = 3
        assert invoke("run", "--broker-url", "redis://h/0").exit_code == 3

    def test_a_wrong_setting_is_one_line_on_stderr_and_exit_code_2(self, app: FakeApp) -> None:
        result = invoke("run", "--broker-url", "redis://h/0", "--log-level", "loud")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith('celeryscope: error: log_level cannot be "loud", from option --log-level')
        assert result.stderr.count("\n") == 1
        assert not app.ran

    def test_no_broker_names_the_ways_to_give_one(self, app: FakeApp) -> None:
        result = invoke("run")
        assert result.exit_code == 2
        assert "--broker-url-file" in result.stderr

    def test_what_the_app_cannot_run_with_is_masked(self, app: FakeApp) -> None:
        app.error = ConfigError("no redis://:cli-password@h/0")
        result = invoke("run", "--broker-url", "redis://h/0")
        assert (result.exit_code, result.stderr) == (2, "celeryscope: error: no redis://:***@h/0\n")

    def test_a_misspelt_variable_is_a_warning(
        self, app: FakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("os.environ", {"CELERYSCOPE_LOGLEVEL": "x", "CELERYSCOPE_BROKER_URL": "redis://h/0"})
        assert invoke("run").exit_code == 0
        assert "did you mean CELERYSCOPE_LOG_LEVEL?" in caplog.text

    def test_help_shows_the_usual_options_and_names_the_way_to_all(self) -> None:
        output = invoke("run", "--help").output
        assert "--broker-url" in output
        assert "--help-all" in output
        assert "--task-rename" not in output

    def test_help_all_names_every_option_within_80_columns(self) -> None:
        output = invoke("run", "--help-all").output
        for setting in SETTINGS.values():
            for flag in setting.flags:
                assert flag in output.replace("[no-]", ""), flag
            assert setting.group in output
        assert max(len(line) for line in output.splitlines()) <= 80
        assert output.rstrip().endswith("celeryscope.toml")

    def test_help_is_there_by_its_short_name_too(self) -> None:
        assert invoke("-h").exit_code == invoke("run", "-h").exit_code == 0


def test_the_version_names_what_it_is_built_on() -> None:
    output = invoke("--version").output
    assert re.fullmatch(r"celeryscope \S+ \(python 3\S+, celery 5\S+, kombu 5\S+, redis \d\S+\)\n", output)


def test_help_imports_no_celery_no_demo_and_no_http() -> None:
    program = (
        "import sys; from celeryscope.cli import celeryscope\n"
        "for arguments in (['--help'], ['run', '--help'], ['--version']):\n"
        "    celeryscope(arguments, standalone_mode=False)\n"
        "heavy = {'celery', 'kombu', 'redis', 'prometheus_client', 'celeryscope_demo', 'http.server'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(celeryscope.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


class TestDemo:
    def test_the_real_command_gets_the_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @click.command()
        @click.option("--seconds", type=int)
        def demo(seconds: int) -> None:
            """The real one."""
            click.echo(f"for {seconds}")

        monkeypatch.setitem(sys.modules, "celeryscope_demo.command", SimpleNamespace(demo=demo))
        monkeypatch.setitem(sys.modules, "celeryscope_demo", SimpleNamespace())
        assert invoke("demo", "--seconds", "3").output == "for 3\n"
        assert "The real one." in invoke("demo", "--help").output

    def test_a_missing_package_names_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(cli, "import_module", missing)
        result = invoke("demo")
        assert result.exit_code == 1
        assert "pip install 'celeryscope[demo]'" in result.output
        assert "Run a cluster on this machine" in invoke("--help").output


class TestReference:
    def test_the_command_prints_it(self) -> None:
        assert invoke("metrics").output == reference.reference()

    def test_the_file_in_docs_is_not_stale(self) -> None:
        text = (REPOSITORY / "docs" / "metrics.md").read_text()
        assert text == reference.reference(), "run: celeryscope metrics > docs/metrics.md"

    def test_every_metric_is_in_it_with_its_help(self) -> None:
        text = reference.reference()
        for spec in ALL:
            assert f"| `{spec.name}` | {spec.kind.value} |" in text
            assert spec.help.replace("|", "\\|") in text

    def test_labels_whose_values_differ_by_metric_are_explained_for_each(self) -> None:
        for spec in ALL:
            for label in {"reason", "outcome"} & set(spec.labels):
                assert (spec.name, label) in reference.LABELS, f"explain {label} of {spec.name} in LABELS"

    def test_no_explanation_outlives_its_label(self) -> None:
        labels = {label for spec in ALL for label in spec.labels}
        pairs = {(spec.name, label) for spec in ALL for label in spec.labels}
        assert set(reference.LABELS) <= labels | pairs

    def test_a_metric_without_a_section_is_an_error(self) -> None:
        with pytest.raises(LookupError, match="add its prefix"):
            reference.reference([Spec("other_total", Kind.COUNTER, "x")])
