"""`celeryscope dashboards`: what it writes, what it leaves alone, and what it says where it cannot write."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeryscope import resources
from celeryscope.cli import celeryscope
from celeryscope.dashboards import chosen, committed

NAMES = {
    f"celeryscope-{name}.json" for name in ("overview", "task", "queues", "workers", "limits", "slo", "exporter")
}  # fmt: skip
OVERVIEW = "celeryscope-overview.json"


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(celeryscope, ["dashboards", *map(str, arguments)])


def lines(*arguments: object) -> dict[str, str]:
    """What it says of each file."""
    result = asked(*arguments)
    assert result.exit_code == 0, result.output
    return {Path(path).name: word for word, path in (line.split(maxsplit=1) for line in result.stdout.splitlines())}


def refusal(*arguments: object) -> str:
    """What it says where it fails: one line."""
    result = asked(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def variable(text: str, name: str) -> object:
    """With what a variable of a dashboard opens."""
    (found,) = (found for found in json.loads(text)["templating"]["list"] if found["name"] == name)
    return found["current"]["value"]


class TestWriting:
    def test_all_seven_are_written_as_they_come_with_the_package(self, tmp_path: Path) -> None:
        assert lines(tmp_path) == dict.fromkeys(NAMES, "wrote")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == committed()

    def test_a_directory_is_made_where_there_is_none(self, tmp_path: Path) -> None:
        assert set(lines(tmp_path / "grafana" / "dashboards")) == NAMES

    def test_what_is_there_already_is_not_written_again(self, tmp_path: Path) -> None:
        lines(tmp_path)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        assert lines(tmp_path) == dict.fromkeys(NAMES, "unchanged")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    def test_an_older_one_is_replaced_and_said_to_be(self, tmp_path: Path) -> None:
        (tmp_path / OVERVIEW).write_text('{"uid": "celeryscope-overview", "title": "of last year"}')
        told = lines(tmp_path)
        assert told.pop(OVERVIEW) == "replaced"
        assert set(told.values()) == {"wrote"}
        assert (tmp_path / OVERVIEW).read_text() == committed()[OVERVIEW]

    def test_other_files_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.json").write_text("mine")
        lines(tmp_path)
        assert (tmp_path / "mine.json").read_text() == "mine"
        assert {path.name for path in tmp_path.iterdir()} == NAMES | {"mine.json"}


class TestOptions:
    def test_a_data_source_is_chosen_in_every_dashboard(self, tmp_path: Path) -> None:
        lines(tmp_path, "--datasource-uid", "mimir")
        texts = [path.read_text() for path in tmp_path.iterdir()]
        assert {variable(text, "datasource") for text in texts} == {"mimir"}

    def test_a_job_is_chosen_in_every_dashboard(self, tmp_path: Path) -> None:
        lines(tmp_path, "--job", "celery-production")
        assert all(variable(path.read_text(), "job") == ["celery-production"] for path in tmp_path.iterdir())

    def test_nothing_else_changes(self) -> None:
        text = committed()[OVERVIEW]
        same = chosen(text, str(variable(text, "datasource")), None)
        before, after = (json.loads(found) for found in (text, same))
        for dashboard in (before, after):
            dashboard["templating"]["list"][0].pop("current")
        assert after == before

    @pytest.mark.parametrize("option", ["--datasource-uid", "--job"])
    def test_an_empty_choice_is_refused(self, option: str, tmp_path: Path) -> None:
        assert option in refusal(tmp_path, option, " ")
        assert not list(tmp_path.iterdir())


class TestRefusing:
    @pytest.mark.parametrize(
        "theirs", ["no JSON", "[]", '{"uid": "another"}', '{"title": "without a uid"}'], ids=lambda text: text
    )
    def test_a_file_that_is_not_ours_stops_it_before_it_writes(self, theirs: str, tmp_path: Path) -> None:
        (tmp_path / "celeryscope-workers.json").write_text(theirs)
        told = refusal(tmp_path)
        assert str(tmp_path / "celeryscope-workers.json") in told
        assert "move it away" in told
        assert [path.name for path in tmp_path.iterdir()] == ["celeryscope-workers.json"]
        assert (tmp_path / "celeryscope-workers.json").read_text() == theirs

    def test_a_file_in_place_of_the_directory_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert f"{tmp_path / 'file'} is not a directory" in refusal(tmp_path / "file")

    def test_a_place_that_cannot_be_written_is_told_with_the_reason(self, tmp_path: Path) -> None:
        # A directory stands where the file is written first: this fails for every user, root included.
        (tmp_path / f".{OVERVIEW}.part").mkdir()
        told = refusal(tmp_path)
        assert f".{OVERVIEW}.part: cannot write there: Is a directory" in told

    def test_a_place_that_cannot_be_looked_at_is_told_with_the_reason(self, tmp_path: Path) -> None:
        # Too long for any file system: this fails for every user, root included.
        assert "cannot write there: File name too long" in refusal(tmp_path / ("x" * 300))

    def test_an_installation_without_dashboards_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resources, "PACKAGED", tmp_path)
        monkeypatch.setattr(resources, "CHECKOUT", tmp_path)
        assert "install it again" in refusal(tmp_path / "out")
        assert not (tmp_path / "out").exists()
