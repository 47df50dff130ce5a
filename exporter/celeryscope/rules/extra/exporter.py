"""What makes numbers untrue, and a broker that may forget."""

from celeryscope.rules.model import INFO, WARNING, Alert
from celeryscope.rules.settings import Settings


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
    words = settings.words
    polled = words.largest("celery_exporter_poll_last_success_timestamp_seconds", "poller")
    # Since the start, where none has succeeded.
    since = f"on ({words.by_replica()}) group_left () (time() - process_start_time_seconds)"
    never = words.least(f"celery_exporter_poll_success * 0 + {since}", "poller")
    dropped = words.increase("celery_exporter_series_dropped_total", "15m", "metric")
    policy = 'celery_broker_eviction_policy_info{policy!="noeviction"}'
    return [
        Alert(
            "CeleryPollStale",
            f"(\n  time() - {polled}\n  or\n  {never}\n  unless on ({words.by('poller')}) {polled}\n)\n"
            f"> {settings['poll_age_seconds']}",
            WARNING,
            "Polls of queues or workers fail",
            "No poll of the {{ $labels.poller }} has succeeded for {{ $value | humanizeDuration }}.",
            hold="10m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CelerySeriesBudgetReached",
            f"{dropped} > 0",
            INFO,
            "The exporter has no room for more series",
            "{{ $labels.metric }} is counted under __overflow__: raise --series-limit, or find the label that grows.",
            hold="15m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryBrokerEvictionPolicyUnsafe",
            words.largest(policy, "policy"),
            WARNING,
            "The broker may throw queues away",
            "The broker of {{ $labels.job }} has the policy {{ $labels.policy }}: without memory, it deletes queues.",
            hold="10m",
            dashboard="celeryscope-queues",
        ),
    ]
