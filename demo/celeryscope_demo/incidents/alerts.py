"""What each incident makes Alertmanager say, with the rules and routes of this repository."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Arrival:
    """The first message that tells of an incident: whom it goes to, the alert, and labels that name what is wrong.

    A label that depends on the host, a worker's, is not written here.
    """

    receiver: str
    alert: str
    labels: Mapping[str, str] = field(default_factory=dict)


ARRIVES: Mapping[str, Arrival] = {
    "no-workers": Arrival("pager", "CeleryQueueWithoutWorkers", {"queue": "demo-heavy"}),
    "worker-killed": Arrival("pager", "CeleryQueueWithoutWorkers", {"queue": "demo"}),
    "worker-frozen": Arrival("pager", "CeleryQueueWithoutWorkers", {"queue": "demo"}),
    "consumer-lost": Arrival("tickets", "CeleryWorkerIdleWithBacklog"),
    "process-killed": Arrival("tickets", "CeleryWorkerProcessKilled", {"task": "videos.transcode"}),
    "error-spike": Arrival("pager", "CeleryTaskFailureRatioHigh", {"task": "comments.screen"}),
    "deploy-skew": Arrival("pager", "CeleryTaskFailureRatioHigh", {"task": "comments.screen"}),
    "poison-task": Arrival("tickets", "CeleryTaskNotRegistered", {"task": "comments.translate"}),
    "retry-storm": Arrival("tickets", "CeleryTaskRetryStorm", {"task": "webhooks.deliver"}),
    "rate-limit": Arrival("tickets", "CeleryRateLimitThrottled"),
    "duplicate-delivery": Arrival("tickets", "CeleryTaskRedelivered"),
    "beat-stopped": Arrival("tickets", "CeleryTaskOverdue", {"task": "trickle.feed"}),
    "events-off": Arrival("tickets", "CeleryTaskEventsDisabled"),
    "lost-events": Arrival("tickets", "CeleryEventsLost"),
    "eviction-policy": Arrival("tickets", "CeleryBrokerEvictionPolicyUnsafe"),
    "clock-skew": Arrival("tickets", "CeleryWorkerClockSkew"),
    "expired": Arrival("tickets", "CeleryTaskExpired", {"task": "presence.refresh"}),
    "backlog": Arrival("pager", "CeleryQueueOldestTaskTooOld", {"queue": "demo-urgent"}),
}
