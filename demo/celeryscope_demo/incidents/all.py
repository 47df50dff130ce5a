"""Every incident, by name, in the order in which they are listed."""

from celeryscope_demo.incidents import Incident, broker, calls, clock, tasks, workers

INCIDENTS: dict[str, Incident] = {
    incident.name: incident
    for incident in (
        *tasks.INCIDENTS,
        *workers.INCIDENTS,
        *clock.INCIDENTS,
        *broker.INCIDENTS,
        *calls.INCIDENTS,
    )
}
