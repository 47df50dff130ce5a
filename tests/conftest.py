"""Fixtures of every test, and the rule that a skip is a failure where CELERYSCOPE_TESTS_NO_SKIP=1."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.reports import CollectReport, TestReport

from support.rabbitmq import RabbitMQ, rabbitmq
from support.servers import Valkey, valkey

HERE = Path(__file__).parent
# Where script/test looks for tests, by what they are marked as: to collect every test in every stage takes long.
FOLDERS = {
    "integration": ("integration", "truth", "rules/test_alertmanager.py"),
    "truth": ("truth",),
    "": ("unit", "contract", "golden", "rules"),
}
NO_SKIP = os.environ.get("CELERYSCOPE_TESTS_NO_SKIP") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full"):
            continue
        mark = next((name for name in ("truth", "integration") if item.get_closest_marker(name)), "")
        if not any(item.path.is_relative_to(HERE / folder) for folder in FOLDERS[mark]):
            raise pytest.UsageError(f"{item.nodeid}: script/test does not look there for what is marked {mark!r}")


def _refuse_skip(report: TestReport | CollectReport) -> None:
    # An expected failure is reported as a skip too: it carries `wasxfail`, and is allowed.
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, and CELERYSCOPE_TESTS_NO_SKIP=1 makes that a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, TestReport, TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, CollectReport, CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture
def valkey_server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey server without a password, for this test alone."""
    with valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def protected_valkey_server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey server that asks for a password."""
    with valkey(tmp_path / "valkey", password="correct-horse") as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ server for all tests of this run, since it takes seconds to start: each makes its own virtual host."""
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
