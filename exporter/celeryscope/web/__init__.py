"""HTTP for few readers and hostile ones: whole answers, and nobody waits for another.

The standard library's server, and what it lacks against slow clients: a deadline for every request and every answer,
places for so many connections and requests, and a limit on what is read.
"""

from celeryscope.web.server import WebServer

__all__ = ["WebServer"]
