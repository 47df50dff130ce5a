"""Write the copies that the stack and the chart need of files of this repository.

A chart cannot read outside its folder, and the Alertmanager of the demo tells the receiver of the demo. A test holds
the copies to their sources: .venv/bin/python script/lib/stack_files.py
"""

from collections.abc import Mapping
from pathlib import Path

from celeryscope_demo.monitoring import with_receivers

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "script/lib/stack_files.py"
PAGER = "http://pager:9095/"  # the service of docker-compose.yml
CHART = Path("deploy/helm/celeryscope/files")
ALERTMANAGER = Path("deploy/compose/alertmanager.yml")
RULES, DASHBOARDS = CHART / "rules", CHART / "dashboards"


def copies(root: Path = ROOT) -> Mapping[Path, str]:
    """What each copy must hold, by its path in the repository."""
    alertmanager = (root / "alerts/alertmanager.yml").read_text()
    head, _, rest = alertmanager.partition("\n\n")
    if not head.startswith("#"):
        raise ValueError("alerts/alertmanager.yml no longer begins with a comment of its own")
    note = f"# alerts/alertmanager.yml with the demo's receiver for everything. Written by {COMMAND}; edit that one."
    wanted = {ALERTMANAGER: f"{note}\n\n{with_receivers(rest, PAGER)}"}
    for rules in sorted((root / "alerts").glob("*.rules.yml")):
        wanted[RULES / rules.name] = rules.read_text()
    for dashboard in sorted((root / "dashboards/generated").glob("**/*.json")):
        wanted[DASHBOARDS / dashboard.name] = dashboard.read_text()
    return wanted


def drifted(root: Path = ROOT) -> list[Path]:
    """Copies that are not as their source, are missing, or have no source any more."""
    wanted = copies(root)
    present = {
        ALERTMANAGER,
        *(path.relative_to(root) for kind in (RULES, DASHBOARDS) for path in (root / kind).glob("*")),
    }
    wrong = {path for path, text in wanted.items() if not (root / path).exists() or (root / path).read_text() != text}
    return sorted(wrong | (present - set(wanted)))


def main() -> None:
    """Write what drifted, and say so."""
    wanted = copies()
    for path in drifted():
        if path in wanted:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path])
            print(f"wrote {path}")
        else:
            (ROOT / path).unlink()
            print(f"removed {path}")


if __name__ == "__main__":
    main()
