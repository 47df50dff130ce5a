"""A third party that asks for patience, and one that is down."""

from celeryscope_demo.incidents import MINUTES, REDELIVERY, Incident
from celeryscope_demo.provider.server import OUTAGE, RATE_LIMIT

INCIDENTS = (
    Incident(
        RATE_LIMIT,
        "A third party lowers its limits to a tenth, and does not say so before: calls have to wait for their turn.",
        "celery_task_rate_limited_total rises by limiter (places, translations, previews), as does "
        "celery_task_retried_total of partners.*; celery_task_rate_limit_delay_seconds grows up to 30 s, "
        "celery_rate_limiter_limit of places falls from 30 to 3. Nothing fails: celery_tasks_in_flight with state "
        "scheduled shows who waits, up to a minute longer than the incident.",
        seconds=2 * MINUTES,
        part=REDELIVERY,
    ),
    Incident(
        OUTAGE,
        "A third party is down: it answers with 503, or not at all.",
        "celery_task_exceptions_total shows ProviderUnavailable and ProviderTimeout of partners.*, first with outcome "
        "retried, after half a minute with outcome failed; celery_task_runtime_seconds of retried attempts reaches the "
        "timeout of 1.5 s, and demo-calls has less of its worker: celery_task_wait_seconds grows.",
        seconds=2 * MINUTES,
        part=REDELIVERY,
    ),
)
