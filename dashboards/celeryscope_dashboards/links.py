"""Links between dashboards. They keep the time range and what is chosen."""

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

TAG = "celeryscope"  # of all our dashboards
KEPT = ("datasource", "job")  # what every dashboard has


def uid(name: str) -> str:
    """By which alerts and links find a dashboard."""
    return f"celeryscope-{name}"


def menu() -> DashboardLink:
    """A menu of all dashboards."""
    return (
        DashboardLink("Celery dashboards")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
        .url("")
    )


def opens(name: str, variable: str, title: str, *, job: str = "") -> dict[str, object]:
    """A link from a cell to another dashboard, where the cell's value is then what is chosen.

    `job` is the column that tells which cluster the row is about.
    """
    kept = [f"${{{kept}:queryparam}}" for kept in KEPT if not (job and kept == "job")]
    if job:
        kept.append(f"var-job=${{__data.fields.{job}:percentencode}}")
    chosen = f"var-{variable}=${{__value.raw:percentencode}}"
    return {
        "title": title,
        "url": f"/d/{uid(name)}?{'&'.join([*kept, chosen])}&${{__url_time_range}}",
        "targetBlank": False,
    }
