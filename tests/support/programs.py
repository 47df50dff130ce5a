"""Programs of the system that some tests need."""

import shutil
import subprocess

import pytest

INSTALL = "script/test --install-system"


def missing(program: str) -> str:
    """Why a test cannot run here: the text of the skip."""
    return f"needs {program}: {INSTALL}"


def needs(program: str) -> pytest.MarkDecorator:
    """A mark that skips a test where `program` is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=missing(program))


def faketime_environment(ahead: float) -> dict[str, str]:
    """The variables under which a program's clock is this many seconds ahead, as `faketime -f` sets them."""
    command = ["faketime", "-f", f"{ahead:+g}s", "printenv"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    return {name: variables[name] for name in ("LD_PRELOAD", "FAKETIME")}
