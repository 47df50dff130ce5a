"""Write the dashboards and the page about them: `python -m celeryscope_dashboards`, from a checkout."""

from pathlib import Path

from celeryscope_dashboards import files

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write what has changed, and remove dashboards that are no more."""
    wanted = files.all_files()
    for name, content in wanted.items():
        path = CHECKOUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
    for path in (CHECKOUT / files.GENERATED).iterdir():
        if f"{files.GENERATED}/{path.name}" not in wanted:
            path.unlink()


main()
