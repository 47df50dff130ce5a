"""SLO: how much budget is left, and who spends it?"""

from celeryscope_dashboards import links, palette
from celeryscope_dashboards.asking import About, Query, bad_from, falling, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import Panel, lines, numbers
from celeryscope_dashboards.queries import Scope, over
from celeryscope_dashboards.tables import JOB, Column, Label, rows

CHOSEN = Scope(("task", "queue"))
BY = ("job", "task", "queue", "slo")
LEGEND = "{{slo}} of {{task}} in {{queue}}"
NONE = "no objective is configured, or nothing was judged by one"
FACTORS = (("1h", 14.4, "2 days"), ("6h", 6.0, "5 days"), ("1d", 3.0, "10 days"), ("3d", 1.0, "30 days"))


def board() -> Board:
    """The dashboard."""
    return Board(
        "slo",
        "SLO",
        "How much of the error budget is left, and who spends it?",
        (
            Row("Now", (objectives(), worst(), burning(), missed())),
            Row("Each objective", (table(), consumers())),
            Row("Is the budget spent too fast?", tuple(burn(*factor) for factor in FACTORS)),
            Row("Over time", (good(), left())),
        ),
        CHOSEN,
        hours=24,
    )


def errors(window: str, *labels: str) -> str:
    """The share of judged tasks that were bad."""
    return CHOSEN.recorded(f"job_task_queue_slo:celery_slo_errors:ratio_rate{window}", *labels)


def allowed() -> str:
    """The share that may be bad: the error budget."""
    return f"((1 - {CHOSEN.recorded('job_task_queue_slo:celery_slo_objective_ratio:min', *BY)}) > 0)"


def burn_rate(window: str) -> str:
    """How many times faster than it lasts the budget is spent."""
    return f"{errors(window, *BY)}\n/ {allowed()}"


def worst_of(expr: str) -> str:
    """The largest over clusters."""
    return over("max", f"\n  {expr}\n", ("task", "queue", "slo"))


def objectives() -> Panel:
    about = About("How many objectives are there?", "As many as are configured.", "no objective is configured")
    expr = f"count({CHOSEN.recorded('job_task_queue_slo:celery_slo_objective_ratio:min', *BY)})"
    return numbers("Objectives", about, Query(expr, "Objectives"), width=6)


def worst() -> Panel:
    about = About(
        "How much of the error budget of 3 days is left, in the objective that is worst off?",
        "100 %: nothing was spent. Below 0 the objective is missed.",
        NONE,
    )
    expr = f"min(1 - {burn_rate('3d')})"
    return numbers("Least budget left", about, Query(expr, "Left"), unit="percentunit", steps=falling(0.25, 0), width=6)


def burning() -> Panel:
    about = About(
        "How fast is the budget spent in the worst objective, over the last hour?",
        "Up to 1 it lasts as long as it should. From 14.4 on, a month's budget is gone in two days, and somebody is "
        "paged.",
        NONE,
    )
    expr = f"max({burn_rate('1h')})"
    return numbers(
        "Fastest burn in 1 hour", about, Query(expr, "Burn"), unit="suffix: x", steps=rising(1, 14.4), width=6
    )


def missed() -> Panel:
    about = About(
        "How many objectives were missed over the last day?",
        "0.",
        NONE,
    )
    expr = f"count({burn_rate('1d')} > 1)\nor\n0 * count({burn_rate('1d')})"
    return numbers("Objectives missed in 1 day", about, Query(expr, "Missed"), steps=bad_from(1), width=6)


def table() -> Panel:
    about = About(
        "How does each objective stand?",
        "Good at or above its objective; burn below 1. success: tasks that did not fail; wait, runtime: those that "
        "were fast enough.",
        NONE,
    )
    shown = (
        Label("slo", "Objective of"),
        Label("task", "Task", links.opens("task", "task", "Open the task", job="Job")),
        Label("queue", "Queue"),
        JOB,
    )
    return rows(
        "Objectives and burn",
        about,
        shown,
        Column("Objective", CHOSEN.recorded("job_task_queue_slo:celery_slo_objective_ratio:min", *BY), "percentunit"),
        Column("Good in 1 h", f"1 - {errors('1h', *BY)}", "percentunit"),
        Column("Burn 1 h", burn_rate("1h"), "suffix: x", rising(1, 14.4)),
        Column("Burn 6 h", burn_rate("6h"), "suffix: x", rising(1, 6)),
        Column("Burn 3 d", burn_rate("3d"), "suffix: x", bad_from(1)),
        Column("Budget left, 3 d", f"1 - {burn_rate('3d')}", "percentunit", falling(0.25, 0)),
        sort="Budget left, 3 d",
        ascending=True,
        width=16,
    )


def consumers() -> Panel:
    about = About(
        "Which tasks spent most of the budget in the time range?",
        "The first of them is what to look at first.",
        "nothing was bad in the time range",
    )
    judged = CHOSEN.increase("celery_slo_tasks_total", *BY)
    fine = CHOSEN.increase("celery_slo_good_tasks_total", *BY)
    shown = (
        Label("task", "Task", links.opens("task", "task", "Open the task", job="Job")),
        Label("slo", "Objective of"),
        Label("queue", "Queue"),
        JOB,
    )
    column = Column("Bad tasks", f"(\n{judged}\n-\n{fine}\n) > 0")
    return rows("Top consumers of budget", about, shown, column, sort="Bad tasks", width=8)


def burn(window: str, factor: float, lasts: str) -> Panel:
    """How fast the budget is spent over one window, with the line from which on it is too fast."""
    about = About(
        f"Is a month's budget spent too fast, over {window}?",
        f"Below the line at {factor:g}: at that pace the budget of 30 days lasts {lasts}. The alert asks a shorter "
        "window too, so that it ends soon after the trouble does.",
        NONE,
    )
    query = Query(worst_of(burn_rate(window)), LEGEND)
    return lines(f"Burn over {window}", about, query, unit="suffix: x", steps=bad_from(factor), width=6)


def good() -> Panel:
    about = About(
        "How many of the judged tasks were good?",
        "At or above the objective.",
        NONE,
    )
    expr = f"1 - {worst_of(errors('1h', *BY))}"
    return lines("Good ratio over 1 hour", about, Query(expr, LEGEND), unit="percentunit", least=None, most=1)


def left() -> Panel:
    about = About(
        "How does the budget of 3 days change?",
        "It comes back after trouble. Below 0 the objective is missed.",
        NONE,
    )
    expr = worst_of(burn_rate("3d"))
    return lines(
        "Budget left of 3 days",
        about,
        Query(f"1 - {expr}", LEGEND),
        unit="percentunit",
        steps=((float("-inf"), palette.BAD), (0, palette.GOOD)),
        least=None,
        most=1,
    )
