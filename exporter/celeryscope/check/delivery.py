"""Whether messages are delivered once, and what is left behind of them."""

from collections.abc import Iterator

from celeryscope.check.facts import Facts, WorkerFacts
from celeryscope.check.model import Check, Found, Severity, counted, duration, named, some, subject_of
from celeryscope.readings import Stage

REDIS = frozenset({"redis", "rediss", "sentinel"})
AMQP = frozenset({"amqp", "amqps"})
DEFAULT_VISIBILITY = 3600.0  # seconds, kombu's
MOST_REPLIES = 100  # lists or bindings of replies; one of each lives for every client that asks just now
CONSUMER_TIMEOUT = 1800.0  # seconds: RabbitMQ's default consumer_timeout
ENOUGH_RESULTS = 20
RESTORING = 300.0  # seconds in which a worker puts back what is overdue: kombu looks every 100 s


def visibility_timeout_short(facts: Facts) -> Iterator[Found]:
    """Tasks that Redis delivers again while a worker has them; the shortest timeout of any worker holds for all."""
    if facts.transport not in REDIS or not facts.answered:
        return
    timeouts = {worker.name: visibility_timeout(worker) for worker in facts.answered}
    timeout = min(timeouts.values())
    remedy = 'broker_transport_options = {{"visibility_timeout": {0:.0f}}} in all workers and producers'
    held = [task for worker in facts.answered for task in worker.reading.held]
    ahead = {task.task: task.at - facts.now for task in held if task.stage is Stage.SCHEDULED and task.at is not None}
    late = {name: wait for name, wait in ahead.items() if wait > timeout}
    if late:
        yield Found(
            subject_of("task", sorted(late)),
            f"due in {duration(max(late.values()))} ({some(late)}), visibility_timeout is {duration(timeout)}",
            remedy=remedy.format(_above(max(late.values()))),
        )
    runs = {task: facts.now - at for task, at in _running_unacknowledged(facts)}
    long = {name: runtime for name, runtime in runs.items() if runtime > timeout}
    if long:
        yield Found(
            subject_of("task", sorted(long)),
            f"runs for {duration(max(long.values()))} ({some(long)}), visibility_timeout is {duration(timeout)}",
            remedy=remedy.format(_above(max(long.values()))),
        )
    limits = {
        name: task.time_limit
        for worker in facts.answered
        for name, task in (worker.tasks or {}).items()
        if task.acks_late and task.time_limit is not None and task.time_limit > timeout
    }
    if limits and not long:
        yield Found(
            subject_of("task", sorted(limits)),
            f"acks_late, and may run for {duration(max(limits.values()))} by its time_limit ({some(limits)}); "
            f"visibility_timeout is {duration(timeout)}",
            Severity.WARNING,
            remedy.format(_above(max(limits.values()))),
        )


def unacked_overdue(facts: Facts) -> Iterator[Found]:
    """Messages that should have been delivered again, and nobody did."""
    broker = facts.broker
    if facts.transport not in REDIS or broker is None or broker.oldest_unacked is None:
        return
    timeouts = [visibility_timeout(worker) for worker in facts.answered]
    patience = RESTORING if timeouts else 0.0
    if not timeouts and facts.own_visibility_timeout is not None:
        timeouts = [facts.own_visibility_timeout]
    age = facts.now - broker.oldest_unacked
    if timeouts and age > max(timeouts) + patience:
        count = sum(reading.unacked or 0 for reading in broker.queues)
        yield Found(
            "broker",
            f"the oldest of {counted(max(count, 1), 'message')} was delivered {duration(age)} ago, "
            f"visibility_timeout is {duration(max(timeouts))}",
        )


def eta_beyond_consumer_timeout(facts: Facts) -> Iterator[Found]:
    """Tasks that workers hold for their ETA for longer than RabbitMQ lets messages be unacknowledged."""
    if facts.transport not in AMQP:
        return
    ahead = {
        task.task: task.at - facts.now
        for worker in facts.answered
        for task in worker.reading.held
        if task.stage is Stage.SCHEDULED and task.at is not None and task.at - facts.now > CONSUMER_TIMEOUT
    }
    if ahead:
        yield Found(
            subject_of("task", sorted(ahead)),
            f"held by a worker and due in {duration(max(ahead.values()))} ({some(ahead)})",
        )


def reply_keys(facts: Facts) -> Iterator[Found]:
    """Answers to remote control that nobody fetched."""
    keys = facts.keys
    if keys is None:
        return
    parts = []
    if keys.replies > MOST_REPLIES:
        parts.append(f"{keys.replies} lists *.reply.celery.pidbox")
    if (keys.reply_bindings or 0) > MOST_REPLIES:
        parts.append(f"{keys.reply_bindings} members of _kombu.binding.reply.celery.pidbox")
    if parts:
        yield Found("broker", " and ".join(parts))


def results_without_expiry(facts: Facts) -> Iterator[Found]:
    """Results that stay for ever: by the workers' settings, or as they lie there."""
    keys = facts.keys
    if keys is not None and keys.results_lasting >= ENOUGH_RESULTS and keys.results_lasting * 2 > keys.results_sampled:
        yield Found(
            "broker",
            f"{keys.results} celery-task-meta-* keys in the broker's database; of {keys.results_sampled} looked at "
            f"{keys.results_lasting} have no time to live",
        )
        return
    names = [
        worker.name
        for worker in facts.answered
        if worker.settings and worker.settings.stores_results and worker.settings.results_expire is False
    ]
    if names:
        yield Found(subject_of("worker", names), named("result_expires is off, and there is a result backend", names))


def results_in_broker(facts: Facts) -> Iterator[Found]:
    """Results beside queues."""
    keys = facts.keys
    if keys is not None and keys.results >= ENOUGH_RESULTS:
        more = "" if keys.complete else " at least"
        yield Found("broker", f"{keys.results} celery-task-meta-* keys{more} in the broker's database")


def visibility_timeout(worker: WorkerFacts) -> float:
    """Return the seconds after which a worker delivers others' messages again."""
    told = worker.broker.visibility_timeout if worker.broker is not None else None
    return DEFAULT_VISIBILITY if told is None else told


def _running_unacknowledged(facts: Facts) -> list[tuple[str, float]]:
    return [
        (task.task, task.at)
        for worker in facts.answered
        for task in worker.reading.held
        if task.stage is Stage.ACTIVE
        and task.at is not None
        and worker.tasks is not None
        and task.task in worker.tasks
        and worker.tasks[task.task].acks_late
    ]


def _above(seconds: float) -> float:
    """Return whole hours well above."""
    return 3600.0 * (int(seconds * 1.2 / 3600.0) + 1)


CHECKS = (
    Check(
        "visibility-timeout-short",
        "tasks are delivered again while a worker has them",
        (Severity.ERROR, Severity.WARNING),
        "the task runs twice, or many times: each time that the timeout passes, another worker gets it",
        'broker_transport_options = {"visibility_timeout": SECONDS} in all workers and producers',
        visibility_timeout_short,
    ),
    Check(
        "unacked-overdue",
        "messages of a lost worker are not delivered again",
        (Severity.WARNING,),
        "they wait until a worker runs that restores them",
        "start a worker with the same visibility_timeout; it restores them within minutes",
        unacked_overdue,
    ),
    Check(
        "eta-beyond-consumer-timeout",
        "an ETA lies beyond RabbitMQ's patience",
        (Severity.WARNING,),
        "unless consumer_timeout was raised from its 30 minutes, RabbitMQ closes the worker's channel and delivers all "
        "that it held again",
        "consumer_timeout in rabbitmq.conf above the longest ETA, or quorum queues, whose ETAs the broker holds",
        eta_beyond_consumer_timeout,
    ),
    Check(
        "results-without-expiry",
        "results stay for ever",
        (Severity.WARNING,),
        "they pile up until memory is full",
        "result_expires = 3600, or task_ignore_result = True where nobody reads them; delete what is there",
        results_without_expiry,
    ),
    Check(
        "reply-keys",
        "answers that nobody fetched pile up",
        (Severity.WARNING,),
        "they fill memory, and what lists bindings gets slow",
        "find who asks with inspect or control and dies or gives up early; delete the keys while nobody asks",
        reply_keys,
    ),
    Check(
        "results-in-broker",
        "results share the broker's memory",
        (Severity.INFO,),
        "large or many results leave no room for messages",
        "result_backend on a server of its own, or task_ignore_result = True where nobody reads them",
        results_in_broker,
    ),
)
