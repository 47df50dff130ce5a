"""What holds for the repository as a whole: its documents, its scripts, and that they agree with the code."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import celeryscope
from celeryscope.metrics.catalog import ALL, Kind
from celeryscope.metrics.reference import reference
from celeryscope_demo.guide import guide

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))
PROGRAMS = [
    ROOT / "script/demo",
    ROOT / "script/test",
    ROOT / "script/stack",
    ROOT / "deploy/image/lock",
    ROOT / ".ci/run",
]
SHELL = [*PROGRAMS, *sorted((ROOT / "script/lib").glob("*.sh"))]


def run(*command: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the caller looks at the exit code."""
    return subprocess.run(command, env=environ, check=False, capture_output=True, text=True, timeout=50)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project_files() -> Iterator[Path]:
    """Every file that belongs to the project: what git tracks, or would."""
    listing = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    assert listing.returncode == 0, listing.stderr
    for name in listing.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


class TestDecisions:
    @pytest.mark.parametrize("path", DECISIONS, ids=name_of)
    def test_has_its_three_sections(self, path: Path) -> None:
        headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"]

    @pytest.mark.parametrize("path", DECISIONS, ids=name_of)
    def test_is_at_most_a_page(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= 60

    def test_are_numbered_without_gaps(self) -> None:
        for number, path in enumerate(DECISIONS, start=1):
            assert re.fullmatch(rf"{number:04d}-[a-z0-9-]+\.md", path.name)
            assert path.read_text().startswith(f"# {number}. ")


class TestDocuments:
    @pytest.mark.parametrize("path", [*DOCUMENTS, *DECISIONS], ids=name_of)
    def test_links_lead_somewhere(self, path: Path) -> None:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            assert target.startswith("https://") or (path.parent / target).exists(), target

    @pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
    def test_name_only_metrics_that_exist(self, path: Path) -> None:
        known = {spec.name for spec in ALL}
        for spec in ALL:
            if spec.kind is Kind.HISTOGRAM:
                known |= {f"{spec.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
        if path.name == "migration.md":  # and those that others have, which rules record from ours
            for rules in (ROOT / "docs/migration").glob("*.yml"):
                known |= set(re.findall(r"record: (\w+)", rules.read_text()))
        named = re.findall(r"\bcelery_(?:task|tasks|worker|broker|queue|exporter|rate)_\w+", path.read_text())
        assert set(named) <= known

    def test_the_reference_is_up_to_date(self) -> None:
        text = (ROOT / "docs/metrics.md").read_text()
        assert text == reference(), "celeryscope metrics > docs/metrics.md"

    def test_the_guide_to_the_demo_is_up_to_date(self) -> None:
        assert (ROOT / "docs/demo.md").read_text() == guide(), "python -m celeryscope_demo.guide > docs/demo.md"

    @pytest.mark.parametrize("command", ["run", "metrics", "demo"])
    def test_commands_exist(self, command: str) -> None:
        assert run(sys.executable, "-m", "celeryscope", command, "--help").returncode == 0

    def test_options_exist(self) -> None:
        commands = [["run", "--help-all"], ["check", "--help-all"]]
        commands += [["demo", "--help"], ["demo", "incident", "start", "--help"]]
        texts = [run(sys.executable, "-m", "celeryscope", *words).stdout for words in commands]
        texts = [text.replace("--[no-]", "--") for text in texts]
        texts.append((ROOT / "script/test").read_text())
        texts += [(ROOT / name).read_text() for name in ("script/stack", "exporter/celeryscope/rules/command.py")]
        elsewhere = {"--without-heartbeat", "--retry-interval"}  # Celery's and celery-exporter's
        # Those of docker, helm and kubectl.
        elsewhere |= {"--build-arg", "--cap-drop", "--cpus", "--env-file", "--from-literal", "--memory", "--profile"}
        elsewhere |= {"--read-only", "--secret", "--security-opt", "--set", "--target", "--upgrade", "--volumes"}
        for path in DOCUMENTS:
            for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text())) - elsewhere:
                assert any(option in text for text in texts), f"{option} in {name_of(path)}"


class TestVersion:
    def test_is_the_installed_one(self) -> None:
        assert metadata.version("celeryscope") == celeryscope.__version__

    def test_is_in_the_changelog_or_unreleased(self) -> None:
        headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        assert headings[0] == "Unreleased"

    def test_runs_on_the_pythons_that_it_names(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert project["requires-python"] == ">=3.11"
        assert "Programming Language :: Python :: 3.11" in project["classifiers"]


def test_run_time_dependencies_are_the_eight() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^a-z-]", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"celery", "kombu", "redis", "prometheus-client", "msgspec", "click", "bcrypt", "pyyaml"}


def test_no_file_names_the_machine_it_was_written_on() -> None:
    places = re.compile(rb"/(?:wor[k]|roo[t]|home/[a-z]+|Users/[A-Za-z]+)/")
    found = [
        f"{name_of(path)}: {match[0].decode()}"
        for path in project_files()
        for match in places.finditer(path.read_bytes())
    ]
    assert not found


class TestScripts:
    @pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
    def test_is_executable(self, path: Path) -> None:
        assert os.access(path, os.X_OK)

    @pytest.mark.parametrize("path", SHELL, ids=name_of)
    def test_parses(self, path: Path) -> None:
        subprocess.run(["bash", "-n", path], check=True)

    def test_tells_its_options(self) -> None:
        told = run(ROOT / "script/test", "--help")
        assert told.returncode == 0
        assert "--install-system" in told.stdout

    def test_refuses_what_it_does_not_know(self) -> None:
        refused = run(ROOT / "script/test", "--fast")
        assert refused.returncode == 2
        assert "--fast" in refused.stderr


class TestFindingPython:
    """`make_venv` with a PATH that holds nothing but what the test puts there."""

    TOOLS = ("bash", "basename", "mktemp", "rm", "sed", "tail")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in self.TOOLS:
            (folder / tool).symlink_to(run("bash", "-c", f"command -v {tool}").stdout.strip())
        return folder

    @staticmethod
    def put(folder: Path, name: str, text: str) -> None:
        program = folder / name
        program.write_text(f"#!{folder}/bash\n{text}\n")
        program.chmod(0o755)

    @staticmethod
    def make_venv(path: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
        script = '. "$1/terminal.sh"; . "$1/python.sh"; make_venv "$2"'
        arguments = ("-c", script, "demo", ROOT / "script/lib", tmp_path / "venv")
        return run(path / "bash", *arguments, environ={"PATH": str(path)})

    def test_passes_over_a_shim_that_fails(self, path: Path, tmp_path: Path) -> None:
        self.put(path, "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
        self.put(path, "python3", f'exec "{sys.executable}" "$@"')
        made = self.make_venv(path, tmp_path)
        assert made.stderr == "Making .venv with python3\n"
        assert made.returncode == 0
        assert (tmp_path / "venv/bin/python").exists()

    def test_passes_over_one_that_is_too_old(self, path: Path, tmp_path: Path) -> None:
        self.put(path, "python3", '[ "$2" != "import sys; sys.exit(sys.version_info < (3, 11))" ]')
        made = self.make_venv(path, tmp_path)
        assert made.returncode == 1
        assert "needs Python 3.11 or newer, or uv" in made.stderr

    def test_names_the_package_that_brings_ensurepip(self, path: Path, tmp_path: Path) -> None:
        self.put(path, "python3", f'case $* in *ensurepip*) exit 1 ;; esac; exec "{sys.executable}" "$@"')
        made = self.make_venv(path, tmp_path)
        assert made.returncode == 1
        assert f"apt-get install python3.{sys.version_info.minor}-venv" in made.stderr

    def test_takes_uv_where_no_python_serves(self, path: Path, tmp_path: Path) -> None:
        self.put(path, "uv", f'echo "$@" >"{tmp_path}/asked"')
        made = self.make_venv(path, tmp_path)
        assert made.returncode == 0
        asked = (tmp_path / "asked").read_text()
        assert asked.startswith("venv ")
        assert asked.rstrip().endswith(str(tmp_path / "venv"))

    def test_shows_the_end_of_the_output_of_what_failed(self, path: Path, tmp_path: Path) -> None:
        self.put(path, "uv", "echo no network >&2; exit 3")
        made = self.make_venv(path, tmp_path)
        assert made.returncode == 3
        assert "no network" in made.stderr
        assert "exit code 3" in made.stderr


class TestContaining:
    """`contain.py`, which finds what a command leaves behind."""

    @staticmethod
    def contain(*command: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, ROOT / "script/lib/contain.py", *command)

    def test_passes_an_exit_code_on(self) -> None:
        assert self.contain("bash", "-c", "exit 3").returncode == 3

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to an ancestor")
    def test_finds_and_ends_a_process_that_detached_itself(self) -> None:
        ended = self.contain("bash", "-c", "setsid sleep 47 </dev/null >/dev/null 2>&1 & disown")
        assert ended.returncode == 70
        assert "sleep 47" in ended.stderr
