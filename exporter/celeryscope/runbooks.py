"""What to do when an alert fires: one Markdown file for each alert, docs/runbooks."""

from celeryscope import resources

FOLDER = "runbooks"
SUFFIX = ".md"


def names() -> list[str]:
    """The alerts that have a runbook, in alphabetical order."""
    return sorted(path.stem for path in resources.folder(FOLDER).glob(f"*{SUFFIX}"))


def find(alert: str) -> str | None:
    """A runbook as Markdown, the list of all for an empty name; None where there is none of that name."""
    if not alert:
        return "# Runbooks\n\n" + "\n".join(f"- [{name}]({name})" for name in names())
    return resources.read(FOLDER, alert + SUFFIX)
