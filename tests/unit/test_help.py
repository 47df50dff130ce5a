"""Help that fits a screen, with examples; and what the shell completes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from celeryscope import cli

SCREEN = 27  # lines: a terminal of 24, or a little more
COLUMNS = 80


def loaded(command: click.Command) -> click.Command:
    return command._load() if isinstance(command, cli.DeferredCommand) else command


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, by the words that call it."""
    command = loaded(command)
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


ALL = dict(commands(cli.celeryscope))


def completed(*words: str) -> list[str]:
    """What follows these words, of which the last is not finished."""
    *before, last = words
    complete = ShellComplete(cli.celeryscope, {}, "celeryscope", "_CELERYSCOPE_COMPLETE")
    return [item.value for item in complete.get_completions(list(before), last)]


def printed(folder: Path, *command: str, **environ: str) -> str:
    """What a command prints for which `celeryscope` is on the PATH."""
    program = folder / "celeryscope"
    program.write_text(f"#!{sys.executable}\nfrom celeryscope.cli import main\nmain()\n")
    program.chmod(0o755)
    found = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(Path(cli.__file__).parents[1]), **environ}
    done = subprocess.run(command, env=found, capture_output=True, text=True, timeout=30, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_a_screen(path: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": str(COLUMNS)}).invoke(
        cli.celeryscope, [*path, "--help"], prog_name="celeryscope"
    )
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize(
    "path", [path for path, command in ALL.items() if len(command.params) > 1 or not path], ids=" ".join
)
def test_help_of_what_has_options_shows_examples(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.celeryscope, [*path, "--help"], prog_name="celeryscope")
    assert "Examples:\n" in result.output
    assert f"  {' '.join(('celeryscope', *path))}" in result.output.partition("Examples:")[2]


class TestCompletion:
    def test_of_commands(self) -> None:
        assert {"run", "metrics", "rules", "demo"} <= set(completed(""))
        assert completed("ru") == ["rules", "run"]

    def test_of_options(self) -> None:
        assert completed("run", "--log-") == ["--log-level", "--log-format"]

    def test_of_options_of_commands_that_are_loaded_late(self) -> None:
        assert completed("rules", "--disab") == ["--disable"]
        assert completed("demo", "--work") == ["--workload"]

    def test_of_commands_below_them(self) -> None:
        assert completed("demo", "incident", "sta") == ["start"]

    def test_of_values_where_they_are_few(self) -> None:
        assert completed("run", "--log-format", "j") == ["json"]
        assert completed("demo", "--profile", "p") == ["peak"]

    @pytest.mark.parametrize("shell", ["zsh", "fish"])
    def test_the_shells_script_is_printed(self, shell: str, tmp_path: Path) -> None:
        assert "_CELERYSCOPE_COMPLETE=" in printed(
            tmp_path, str(tmp_path / "celeryscope"), _CELERYSCOPE_COMPLETE=f"{shell}_source"
        )

    def test_bash_asks_the_program_and_offers_what_it_says(self, tmp_path: Path) -> None:
        asking = """
            eval "$(_CELERYSCOPE_COMPLETE=bash_source celeryscope)"
            COMP_WORDS=(celeryscope run --log-format j) COMP_CWORD=3
            $(complete -p celeryscope | grep -o '[^ ]*_completion') celeryscope j --log-format
            echo "${COMPREPLY[@]}"
        """
        assert printed(tmp_path, "bash", "--norc", "-c", asking) == "json\n"
