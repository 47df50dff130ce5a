"""Exporter: can I trust these numbers? Here every exporter is shown by itself where it tells of itself."""

from celeryscope_dashboards import palette
from celeryscope_dashboards.asking import About, Query, bad_from, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import UP_DOWN, Panel, lines, numbers, states
from celeryscope_dashboards.queries import FOREIGN, Scope, over
from celeryscope_dashboards.tables import JOB, Label, facts

CHOSEN = Scope(("worker",))
DOWN = "no exporter runs"
PASSIVE = "the exporter is passive, down, or has heard nothing since its start"


def board() -> Board:
    """The dashboard."""
    return Board(
        "exporter",
        "Exporter",
        "Can these numbers be trusted?",
        (
            Row("Now", (heard(), round_trip_now(), lost_now(), deaf(), polled(), budget())),
            Row("Does it hear everything?", (up(), event_rate(), lost(), round_trip(), lag())),
            Row("Is what it heard sound?", (invalid(), reconnects())),
            Row("Are polls fresh?", (poll_age(), poll_duration())),
            Row("Does it bear the load?", (tracked(), evicted(), series(), dropped())),
            Row("The process", (scrape(), cpu(), memory(), versions()), collapsed=True),
            Row("Contradictions", (disorder(), poll_success()), collapsed=True),
        ),
        CHOSEN,
    )


def each(metric: str, *labels: str) -> str:
    """A gauge of each exporter."""
    return over("max", _exporters(metric, CHOSEN.select(metric)), ("instance", *labels))


def each_rate(metric: str, *labels: str) -> str:
    """How fast a counter of each exporter grows."""
    return over("sum", _exporters(metric, f"rate({CHOSEN.select(metric)}[$__rate_interval])"), ("instance", *labels))


def _exporters(metric: str, series: str) -> str:
    """Series of exporters alone: what every target has is shown of those that were exporters within a day."""
    if metric not in FOREIGN:
        return series
    return f"{series} and on (job, instance) present_over_time({CHOSEN.select('celery_exporter_build_info')}[1d])"


def heard() -> Panel:
    about = About(
        "When did a test event of the exporter last come back?",
        "Half a minute ago at most. Above a minute the exporter is deaf: what tasks and workers do is not known.",
        PASSIVE,
    )
    expr = f"max({CHOSEN.age('celery_exporter_canary_last_success_timestamp_seconds', 'job')})"
    return numbers("Heard ago", about, Query(expr, "Heard"), unit="s", steps=bad_from(60))


def round_trip_now() -> Panel:
    about = About(
        "How long does an event take through the broker and back?",
        "Milliseconds. Seconds: the broker, the network or the exporter is overloaded.",
        PASSIVE,
    )
    expr = CHOSEN.largest("celery_exporter_canary_round_trip_seconds")
    return numbers("Canary round trip", about, Query(expr, "Round trip"), unit="s", steps=rising(0.5, 5))


def lost_now() -> Panel:
    about = About(
        "How many events of the chosen workers must have been sent, and never arrived, in the time range?",
        "0. Lost events are missing in all counts of tasks.",
        "no worker sends task events, or none was heard for two heartbeats",
    )
    expr = CHOSEN.increase("celery_worker_events_lost_total")
    return numbers("Events lost in the time range", about, Query(expr, "Lost"), steps=rising(0.5, 100))


def deaf() -> Panel:
    about = About(
        "For how long was the exporter deaf in the time range?",
        "0 s. What happened meanwhile is not counted. Of several exporters of one cluster, the one that heard most.",
        DOWN,
    )
    longest = over("min", f"increase({CHOSEN.select('celery_exporter_deaf_seconds_total')}[$__range])", ("job",))
    expr = f"max({longest})"
    return numbers("Deaf in the time range", about, Query(expr, "Deaf"), unit="s", steps=rising(1, 60))


def polled() -> Panel:
    about = About(
        "How old is the oldest of what is polled?",
        "Below a minute. Above 5 minutes an alert fires, and queues or workers are shown as they were.",
        "no poll has succeeded",
    )
    last = CHOSEN.largest("celery_exporter_poll_last_success_timestamp_seconds", "job", "poller")
    return numbers(
        "Oldest poll", about, Query(f"max(clamp_min(time() - {last}, 0))", "Age"), unit="s", steps=rising(60, 300)
    )


def budget() -> Panel:
    about = About(
        "How many series does the exporter show?",
        "Well below its --series-limit, 50,000 unless set. What is over is folded into __overflow__.",
        DOWN,
    )
    expr = CHOSEN.largest("celery_exporter_series")
    return numbers("Series", about, Query(expr, "Series"), steps=rising(40_000, 50_000))


def up() -> Panel:
    about = About(
        "Which exporters could be scraped, and when?",
        "Up all along. One of several may be down without harm: the others still count everything.",
        "Prometheus has had no exporter among its targets for a day",
    )
    return states("Exporters up", about, Query(each("up"), "{{instance}}"), UP_DOWN, height=5)


def event_rate() -> Panel:
    about = About(
        "How many events are heard, of which types?",
        "In step with what the cluster does. No task-sent: producers do not send them. No task events at all: workers "
        "run without -E. No heartbeats: the exporter is deaf.",
        DOWN,
    )
    expr = CHOSEN.rate("celery_exporter_events_total", "type")
    return lines("Events by type", about, Query(expr, "{{type}}"), unit="cps")


def lost() -> Panel:
    about = About(
        "Whose events are lost?",
        "Nobody's. Of one worker: its connection; of all: the exporter's, or the broker drops them.",
        "no worker sends task events, or none was heard for two heartbeats",
    )
    expr = CHOSEN.increase("celery_worker_events_lost_total", "worker", window="5m")
    return lines("Events lost in 5 minutes, by worker", about, Query(expr, "{{worker}}"))


def round_trip() -> Panel:
    about = About(
        "How long do events take through the broker and back?",
        "Milliseconds, and flat.",
        PASSIVE,
    )
    expr = each("celery_exporter_canary_round_trip_seconds")
    return lines("Canary round trip by exporter", about, Query(expr, "{{instance}}"), unit="s")


def lag() -> Panel:
    about = About(
        "How old are events when they arrive?",
        "Well below a second. A climb: the exporter cannot keep up, or events pile up in the broker.",
        "no event has arrived",
    )
    return lines(
        "Event lag by exporter", about, Query(each("celery_exporter_event_lag_seconds"), "{{instance}}"), unit="s"
    )


def invalid() -> Panel:
    about = About(
        "Which messages could not be understood?",
        "None. The reason tells: a pickled message, one that is too long, a name that had to be cut.",
        "everything was understood",
    )
    expr = CHOSEN.increase("celery_exporter_invalid_events_total", "reason", window="5m")
    return lines("Invalid events in 5 minutes, by reason", about, Query(expr, "{{reason}}"))


def reconnects() -> Panel:
    about = About(
        "How often was the event stream lost and opened again?",
        "0. Each time, events may have been lost.",
        DOWN,
    )
    expr = over("max", f"increase({CHOSEN.select('celery_exporter_reconnects_total')}[5m])", ("instance",))
    return lines("Reconnects in 5 minutes", about, Query(expr, "{{instance}}"))


def poll_age() -> Panel:
    about = About(
        "How old is what each poller found?",
        "A saw below a minute. A straight climb: that poll fails, and its facts disappear.",
        "no poll has succeeded",
    )
    expr = CHOSEN.age("celery_exporter_poll_last_success_timestamp_seconds", "instance", "poller")
    return lines("Age of the last poll", about, Query(expr, "{{instance}} {{poller}}"), unit="s")


def poll_duration() -> Panel:
    about = About(
        "How long do polls take?",
        "Queues: milliseconds. Workers: about a second, which is how long answers are waited for.",
        "no poll is over",
    )
    expr = each("celery_exporter_poll_duration_seconds", "poller")
    return lines("Duration of polls", about, Query(expr, "{{instance}} {{poller}}"), unit="s")


def tracked() -> Panel:
    about = About(
        "How many tasks does the exporter hold in memory?",
        "As many as are on their way. At its bounds (50,000 taken, 500,000 sent) the oldest are forgotten.",
        DOWN,
    )
    return lines("Tracked tasks", about, Query(each("celery_exporter_tracked_tasks"), "{{instance}}"))


def evicted() -> Panel:
    about = About(
        "Which tasks were forgotten before they ended?",
        "Few. capacity: too many at once; ttl: nothing was heard of them for too long; no_end: they ended without "
        "saying so.",
        "nothing was forgotten",
    )
    expr = each_rate("celery_exporter_tracked_tasks_evicted_total", "reason")
    return lines("Tasks forgotten", about, Query(expr, "{{instance}} {{reason}}"), unit="cps")


def series() -> Panel:
    about = About(
        "How many series does each exporter show?",
        "Flat. It grows with tasks times queues; names that are made up at run time make it grow without end.",
        DOWN,
    )
    return lines("Series by exporter", about, Query(each("celery_exporter_series"), "{{instance}}"))


def dropped() -> Panel:
    about = About(
        "Which metrics found no room?",
        "None. What is dropped is folded into __overflow__: raise --series-limit, or rename tasks.",
        DOWN,
    )
    nothing = f"0 * {each('celery_exporter_series')}"
    expr = f"{each_rate('celery_exporter_series_dropped_total', 'metric')}\nor on (instance)\n{nothing}"
    return lines("Series without room", about, Query(expr, "{{instance}} {{metric}}"), unit="cps")


def scrape() -> Panel:
    about = About(
        "How long do scrapes take?",
        "Well below a second, and far below the scrape interval.",
        "Prometheus has had no exporter among its targets for a day",
    )
    return lines("Scrape duration", about, Query(each("scrape_duration_seconds"), "{{instance}}"), unit="s")


def cpu() -> Panel:
    about = About(
        "How busy is the exporter?",
        "Well below 100 % of a processor: it handles events one after the other.",
        DOWN,
    )
    return lines("CPU", about, Query(each_rate("process_cpu_seconds_total"), "{{instance}}"), unit="percentunit")


def memory() -> Panel:
    about = About(
        "How much memory does it take?",
        "It levels off with the number of tasks that it tracks.",
        f"{DOWN}, or its system does not tell",
    )
    return lines("Memory", about, Query(each("process_resident_memory_bytes"), "{{instance}}"), unit="bytes")


def versions() -> Panel:
    about = About("Which versions run?", "The same for all exporters of a cluster.", DOWN)
    labels = ("job", "instance", "version", "python", "celery")
    shown = (
        Label("instance", "Exporter"),
        Label("version", "celeryscope"),
        Label("python", "Python"),
        Label("celery", "Celery"),
        JOB,
    )
    expr = CHOSEN.largest("celery_exporter_build_info", *labels)
    return facts("Versions", about, shown, expr, sort="Exporter", width=12)


def disorder() -> Panel:
    about = About(
        "Which events contradict what was known?",
        "Few. They are counted as well as they can be. Many: events come twice, late, or from clocks that differ.",
        "nothing contradicts",
    )
    expr = CHOSEN.rate("celery_exporter_disorder_total", "kind")
    return lines("Contradictions by kind", about, Query(expr, "{{kind}}"), unit="cps")


def poll_success() -> Panel:
    about = About("Which polls succeed?", "All of them.", "no poll is over")
    meaning = {1.0: ("succeeds", palette.GOOD), 0.0: ("fails", palette.BAD)}
    expr = CHOSEN.least("celery_exporter_poll_success", "instance", "poller")
    return states("Polls", about, Query(expr, "{{instance}} {{poller}}"), meaning, width=12)
