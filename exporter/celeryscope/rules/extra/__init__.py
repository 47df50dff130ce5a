"""Alerts that some want and others do not: opt-in. One module for each group."""

from celeryscope.rules.extra import exporter, limits, queues, slo, tasks, workers
from celeryscope.rules.model import Group
from celeryscope.rules.settings import Settings


def groups(settings: Settings) -> list[Group]:
    """All groups."""
    return [
        Group("celeryscope.slo", tuple(slo.alerts(settings))),
        Group("celeryscope.queues.extra", tuple(queues.alerts(settings))),
        Group("celeryscope.workers.extra", tuple(workers.alerts(settings))),
        Group("celeryscope.tasks.extra", tuple(tasks.alerts(settings))),
        Group("celeryscope.limits.extra", tuple(limits.alerts(settings))),
        Group("celeryscope.exporter.extra", tuple(exporter.alerts(settings))),
    ]
