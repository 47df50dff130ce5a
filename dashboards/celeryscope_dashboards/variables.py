"""The variables at the top of a dashboard: what its panels are about."""

from collections.abc import Mapping
from types import MappingProxyType

from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, QueryVariable
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import VariableModel, VariableOption, VariableRefresh, VariableSort

from celeryscope_dashboards.asking import SOURCE
from celeryscope_dashboards.queries import Scope

SOURCE_UID = "prometheus"  # of the data source that comes with our Grafana

# The metric that has all values of a variable.
CHOSEN_FROM: Mapping[str, str] = MappingProxyType(
    {"queue": "celery_queue_length", "task": "celery_task_started_total", "worker": "celery_worker_up"}
)


def of(scope: Scope) -> list[Builder[VariableModel]]:
    """The variables of a scope: data source and job first."""
    found: list[Builder[VariableModel]] = [
        _source(),
        _query("job", "Job", "label_values(celery_exporter_build_info, job)"),
    ]
    for name in scope.variables:
        # What tasks tell of queues has "unknown" among them, the broker has not.
        metric = CHOSEN_FROM["task" if "task" in scope.variables and name == "queue" else name]
        found.append(_query(name, name.capitalize(), f'label_values({metric}{{job=~"$job"}}, {name})'))
    return found


def _source() -> DatasourceVariable:
    chosen = VariableOption(selected=False, text="Prometheus", value=SOURCE_UID)
    return DatasourceVariable("datasource").label("Data source").type("prometheus").current(chosen)


def _query(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": "StandardVariableQuery"})
        .definition(query)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    )
