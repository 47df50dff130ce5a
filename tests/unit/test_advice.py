"""What the log tells a person to change."""

from celeryscope.advice import Facts, advice

HEALTHY = Facts(600.0, ("celery@a", "celery@b", "celery@c"), (), tasks_sent=100, tasks_started=100)


def test_a_healthy_cluster_needs_none() -> None:
    assert advice(HEALTHY) == []


def test_a_quiet_minute_without_workers_points_at_the_broker() -> None:
    quiet = HEALTHY._replace(workers_up=())
    assert advice(quiet)[0].startswith("no worker heard: check that the broker URL")
    assert advice(quiet._replace(listening_seconds=30.0)) == []
    assert advice(quiet._replace(listening_seconds=0.0)) == []


def test_workers_without_task_events_are_told_how_to_send_them() -> None:
    (line,) = advice(HEALTHY._replace(workers_without_events=HEALTHY.workers_up))
    assert line == "3 workers up, none sends task events: start them with -E or use --enable-events"
    (line,) = advice(HEALTHY._replace(workers_without_events=("celery@b",)))
    assert line.startswith("1 of 3 workers (celery@b) send no task events")


def test_nobody_is_told_what_is_being_done() -> None:
    assert advice(HEALTHY._replace(workers_without_events=HEALTHY.workers_up), events_switched=True) == []


def test_missing_task_sent_events_are_told_once_enough_tasks_were_started() -> None:
    assert "task_send_sent_event = True" in advice(HEALTHY._replace(tasks_sent=0))[0]
    assert advice(HEALTHY._replace(tasks_sent=0, tasks_started=5)) == []
