"""What runs by the clock. One `celery beat` process sends it: two would send everything twice.

Every entry expires before the next one is due: while no worker is there, entries do not pile up to be run all
at once when one comes back.
"""

from celery.schedules import crontab

from celeryscope_demo.queues import TRICKLE


def every(seconds: float, task: str, **options: object) -> dict[str, object]:
    """An entry that runs this often."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds, **options}}


SCHEDULE = {
    "trickle": every(5.0, "trickle.feed", queue=TRICKLE),
    "import of partners": every(30.0, "etl.start"),
    "search index": every(10.0, "search.rebuild"),
    "expired sessions": {
        "task": "sessions.purge",
        "schedule": crontab(minute="*"),
        "options": {"expires": 60.0},
    },
}
