"""Files that come with the package and are no Python: found alike in a checkout, an installed wheel and an image."""

from pathlib import Path

from celeryscope.errors import CeleryscopeError

PACKAGED = Path(__file__).with_name("data")  # where the wheel has them
CHECKOUT = Path(__file__).resolve().parents[2]
# By name: where a checkout has them.
FOLDERS = {"runbooks": "docs/runbooks", "alerts": "alerts", "dashboards": "dashboards/generated"}


class ResourceMissing(CeleryscopeError):
    """A file that belongs to the package is not there: the installation is not complete."""


def folder(name: str) -> Path:
    """The folder of this name. Raises ResourceMissing."""
    for path in (PACKAGED / name, CHECKOUT / FOLDERS[name]):
        if path.is_dir():
            return path
    raise ResourceMissing(f"the {name} of celeryscope are missing: install it again")


def read(name: str, file: str) -> str | None:
    """The text of a file of a folder; None where there is none of that name. `file` may come from outside."""
    path = folder(name) / file
    # Only what stands in the folder itself: a name may hold anything.
    if path.name != file or path.parent != folder(name) or not path.is_file():
        return None
    return path.read_text(encoding="utf-8")
