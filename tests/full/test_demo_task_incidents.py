"""Each incident of tasks shows what it promises, and a demo that had it is as well as before."""

import time
from collections.abc import Callable, Iterator

import pytest

from celeryscope_demo import queues
from support.demo import Demo, steady_demo
from support.exporter import Metrics
from support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

SEEN = 100.0  # seconds from an incident's start until it shows
OVER = 100.0  # seconds from its end until nothing is left of it
BIG = 256 * 1024  # bytes

Reading = Callable[[Metrics], float]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all incidents, one after the other."""
    with steady_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def demo(running: Demo) -> Iterator[Demo]:
    """The same demo, of which no part may fall over under an incident."""
    yield running
    assert "started again" not in running.log.read_text()
    assert running.metrics().sum("celery_worker_up") == 3


def total(name: str, **labels: str) -> Reading:
    return lambda found: found.sum(f"celery_{name}", **labels)


def failures(task: str, exception: str) -> Reading:
    return total("task_exceptions_total", task=task, exception=exception, outcome="failed")


def of_worker(found: Metrics, name: str, worker: str) -> float:
    """The value of the one worker of this name, whatever its host."""
    values = found.series(f"celery_{name}")
    return next(value for labels, value in values.items() if dict(labels)["worker"].startswith(f"demo-{worker}@"))


def wait_for_calm(demo: Demo, harm: Reading, work: Reading, least: float) -> None:
    """Wait until so much work was done without any more harm."""
    last = demo.metrics()

    def calm() -> bool:
        nonlocal last
        now = demo.metrics()
        if harm(now) != harm(last):
            last = now
        return work(now) - work(last) >= least

    wait_until(calm, OVER, f"{least:g} more done without harm")


def mean_runtime(demo: Demo, task: str, runs: int) -> float:
    """The mean runtime of the next runs of a task, in seconds."""
    count, seconds = (total(f"task_runtime_seconds_{part}", task=task) for part in ("count", "sum"))
    first = demo.metrics()
    last = demo.wait_until(lambda found: count(found) - count(first) >= runs, SEEN, f"{runs} more runs of {task}")
    return (seconds(last) - seconds(first)) / (count(last) - count(first))


@pytest.mark.parametrize(
    ("incident", "task", "exception"),
    [
        ("new-exception", "comments.screen", "ModelOutdated"),
        ("deploy-skew", "comments.screen", "TypeError"),
        ("process-killed", "videos.transcode", "WorkerLostError"),
        ("poison-task", "comments.translate", "NotRegistered"),
        ("soft-limit-blocked", "passwords.rehash", "TimeLimitExceeded"),
    ],
)
def test_a_task_fails_as_it_never_did_before(demo: Demo, incident: str, task: str, exception: str) -> None:
    failed = failures(task, exception)
    assert failed(demo.metrics()) == 0
    with demo.during(incident):
        demo.wait_until(lambda found: failed(found) >= 2, SEEN, f"{task} fails with {exception}")
    wait_for_calm(demo, failed, total("task_succeeded_total", task="comments.screen"), 3)


def test_an_unknown_task_never_starts(demo: Demo) -> None:
    sent = total("task_sent_total", task="comments.translate")
    before = demo.metrics()
    with demo.during("poison-task"):
        demo.wait_until(lambda found: sent(found) >= sent(before) + 2, SEEN, "it is sent")
    failed = total("task_failed_total", task="comments.translate")
    found = demo.wait_until(lambda found: failed(found) == sent(found), OVER, "each of them failed")
    assert found.sum("celery_task_started_total", task="comments.translate") == 0


def test_what_is_blocked_in_c_hears_no_soft_limit(demo: Demo) -> None:
    failed = total("task_failed_total", task="passwords.rehash")
    before = demo.metrics()
    with demo.during("soft-limit-blocked"):
        found = demo.wait_until(lambda found: failed(found) > failed(before), SEEN, "the hard limit ends it")
        assert found.sum("celery_task_exceptions_total", exception="SoftTimeLimitExceeded") == 0
    # What it left in the queue is done at once.
    ended = total("task_succeeded_total", task="passwords.rehash")
    started = total("task_started_total", task="passwords.rehash")
    demo.wait_until(lambda found: started(found) == ended(found) + failed(found), OVER, "none is left")


def test_a_spike_of_a_known_error(demo: Demo) -> None:
    failed = failures("comments.screen", "MalformedComment")
    started = total("task_started_total", task="comments.screen")
    before = demo.metrics()

    def spikes(found: Metrics) -> bool:
        runs = started(found) - started(before)
        return runs >= 10 and (failed(found) - failed(before)) / runs > 0.3

    with demo.during("error-spike"):
        demo.wait_until(spikes, SEEN, "a third of the runs fail")
    wait_for_calm(demo, failed, total("task_succeeded_total", task="comments.screen"), 5)


def test_a_storm_of_retries(demo: Demo) -> None:
    retried = total("task_retried_total", task="webhooks.deliver")
    started = total("task_started_total", task="webhooks.deliver")
    before = demo.metrics()

    def storms(found: Metrics) -> bool:
        runs = started(found) - started(before)
        return runs >= 40 and (retried(found) - retried(before)) / runs > 0.5

    with demo.during("retry-storm"):
        demo.wait_until(storms, SEEN, "more than half of the attempts are retried")
        scheduled = total("tasks_in_flight", task="webhooks.deliver", state="scheduled")
        demo.wait_until(lambda found: scheduled(found) >= 5, SEEN, "retries wait for their time")
    demo.wait_until(lambda found: scheduled(found) <= 1, OVER, "the retries are through")
    wait_for_calm(demo, retried, total("task_succeeded_total", task="webhooks.deliver"), 5)


def test_a_task_that_slows_down(demo: Demo) -> None:
    usual = mean_runtime(demo, "comments.screen", 5)
    assert usual < 0.5
    with demo.during("slow-down"):
        wait_until(
            lambda: mean_runtime(demo, "comments.screen", 5) > max(1.0, 5 * usual), SEEN, "it takes five times as long"
        )
    wait_until(lambda: mean_runtime(demo, "comments.screen", 5) < 0.5, OVER, "it takes as long as before")


def test_a_backlog(demo: Demo) -> None:
    length = total("queue_length", queue=queues.URGENT)
    oldest = total("queue_oldest_task_timestamp_seconds", queue=queues.URGENT)
    allowed = total("queue_wait_objective_seconds", queue=queues.URGENT)
    failed = total("task_failed_total", task="campaigns.notify")

    def behind(found: Metrics) -> bool:
        return length(found) > 50 and time.time() - oldest(found) > allowed(found) > 0

    with demo.during("backlog"):
        demo.wait_until(behind, SEEN, "urgent work waits for longer than it may")
    found = demo.wait_until(lambda found: length(found) == 0, OVER, "the queue is empty")
    assert failed(found) == 0
    quick = total("task_wait_seconds_bucket", task="photos.resize", le="1.0")
    wait_for_calm(demo, length, quick, 3)


def test_a_leak_of_memory(demo: Demo) -> None:
    def replaced(found: Metrics) -> float:
        return of_worker(found, "worker_child_replacements_total", "general")

    def processed(found: Metrics) -> float:
        return of_worker(found, "worker_tasks_processed_total", "general")

    before = demo.metrics()

    def leaks(found: Metrics) -> bool:
        processes = replaced(found) - replaced(before)
        return processes >= 4 and (processed(found) - processed(before)) / processes < 100

    with demo.during("memory-leak"):
        demo.wait_until(leaks, SEEN, "processes are replaced twice as often as after 200 tasks")
    wait_for_calm(demo, replaced, processed, 100)


def test_tasks_that_expire(demo: Demo) -> None:
    expired = total("task_revoked_total", task="presence.refresh", reason="expired")
    assert expired(demo.metrics()) == 0
    with demo.during("expired"):
        demo.wait_until(lambda found: expired(found) >= 3, SEEN, "tasks expire")
    wait_for_calm(demo, expired, total("task_succeeded_total", task="presence.refresh"), 3)


def test_big_messages_wait_in_a_queue(demo: Demo) -> None:
    size = total("queue_head_message_bytes", queue=queues.HEAVY)
    length = total("queue_length", queue=queues.HEAVY)
    with demo.during("big-messages"):
        demo.wait_until(lambda found: size(found) > BIG and length(found) > 2, SEEN, "big messages wait")
    demo.wait_until(lambda found: length(found) == 0 and size(found) < BIG, OVER, "the queue is empty")
    succeeded = total("task_succeeded_total", task="media.transcode")
    wait_for_calm(demo, total("task_failed_total", queue=queues.HEAVY), succeeded, 1)


def test_a_solo_worker_that_is_busy(demo: Demo) -> None:
    def silence(found: Metrics) -> float:
        return time.time() - of_worker(found, "worker_last_heartbeat_timestamp_seconds", "heavy")

    lost = demo.metrics().sum("celery_worker_lost_total")
    with demo.during("solo-busy"):
        found = demo.wait_until(lambda found: silence(found) > 20, SEEN, "the worker is silent")
        assert of_worker(found, "worker_up", "heavy") == 1
    found = demo.wait_until(lambda found: silence(found) < 5, OVER, "the worker beats")
    assert found.sum("celery_worker_lost_total") == lost
    length = total("queue_length", queue=queues.HEAVY)
    demo.wait_until(lambda found: length(found) == 0, OVER, "the queue is empty")
