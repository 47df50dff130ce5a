"""`celeryscope dashboards`: write the Grafana dashboards that come with the package."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from celeryscope import resources
from celeryscope.errors import CeleryscopeError, ConfigError

_EXAMPLES = """\
\b
Examples:
  celeryscope dashboards /var/lib/grafana/dashboards
  celeryscope dashboards dashboards --datasource-uid mimir --job celery-prod
"""


def committed() -> dict[str, str]:
    """The dashboards by file name, as they come with the package. Raises ResourceMissing."""
    found = {
        path.name: path.read_text(encoding="utf-8") for path in sorted(resources.folder("dashboards").glob("*.json"))
    }
    if not found:
        raise resources.ResourceMissing("the dashboards of celeryscope are missing: install it again")
    return found


def chosen(text: str, datasource_uid: str | None, job: str | None) -> str:
    """A dashboard that opens with another data source, or with one job instead of all."""
    if datasource_uid is None and job is None:
        return text
    dashboard: dict[str, Any] = json.loads(text)
    for variable in dashboard["templating"]["list"]:
        if variable["name"] == "datasource" and datasource_uid is not None:
            variable["current"] = {"selected": False, "text": datasource_uid, "value": datasource_uid}
        elif variable["name"] == "job" and job is not None:
            variable["current"] = {"selected": True, "text": [job], "value": [job]}
    return json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write(folder: Path, dashboards: dict[str, str]) -> Iterable[str]:
    """Write dashboards, and yield a line for each. Raises ConfigError where that is impossible.

    Nothing is written where one of the files there is not a dashboard of ours.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is not a directory: name one, or one that does not exist yet")
        folder.mkdir(parents=True, exist_ok=True)
        before = {name: _ours(folder / name, text) for name, text in dashboards.items()}
        for name, text in dashboards.items():
            path = folder / name
            if before[name] == text:
                yield f"unchanged  {path}"
                continue
            _replace(path, text)
            yield f"{'wrote' if before[name] is None else 'replaced':<9}  {path}"
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot write there: {error.strerror}") from error


def _ours(path: Path, text: str) -> str | None:
    """What a file holds; None where there is none. Raises ConfigError where it is somebody else's."""
    try:
        there = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        there = ""
    try:
        uid = json.loads(there)["uid"]
    except (ValueError, KeyError, TypeError):
        uid = None
    if uid != json.loads(text)["uid"]:
        raise ConfigError(
            f"{path} exists and is no dashboard of celeryscope: move it away, or choose another directory"
        )
    return there


def _replace(path: Path, text: str) -> None:
    """Grafana may read at any time: it finds the old file or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@click.command(epilog=_EXAMPLES)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--datasource-uid", metavar="UID", help="The Prometheus data source with which they open.")
@click.option("--job", metavar="NAME", help="The job with which they open, instead of all.")
def dashboards(directory: Path, datasource_uid: str | None, job: str | None) -> None:
    """Write the Grafana dashboards into a directory, which is made if there is none.

    Let Grafana provision that directory, or import the files. They need the recording rules
    (celeryscope rules recording).
    """
    for option, value in (("--datasource-uid", datasource_uid), ("--job", job)):
        if value is not None and not value.strip():
            raise click.ClickException(f"{option}: it is empty")
    try:
        texts = {name: chosen(text, datasource_uid, job) for name, text in committed().items()}
        for line in write(directory, texts):
            click.echo(line)
    except CeleryscopeError as error:
        raise click.ClickException(str(error)) from error
