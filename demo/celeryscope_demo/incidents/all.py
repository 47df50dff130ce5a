"""Every incident, by name, in the order in which they are listed."""

from celeryscope_demo.incidents import Incident, workers

INCIDENTS: dict[str, Incident] = {incident.name: incident for incident in (*workers.INCIDENTS,)}
