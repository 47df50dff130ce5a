"""How fast error budgets are spent."""

from celeryscope.rules.model import CRITICAL, WARNING, Alert
from celeryscope.rules.settings import Settings

# How fast the error budget is spent: over a long and a short window, how often faster than it would last, for how long.
BURNS = (
    ("1h", "5m", "14.4", "2m", CRITICAL),
    ("6h", "30m", "6", "15m", CRITICAL),
    ("1d", "2h", "3", "1h", WARNING),
    ("3d", "6h", "1", "3h", WARNING),
)


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
    words = settings.words
    labels = ("task", "queue", "slo")
    level, on = words.level(*labels), words.by(*labels)
    budget = f"(1 - {level}:celery_slo_objective_ratio:min)"
    rules = []
    for long, short, factor, hold, severity in BURNS:
        burning = "\nand\n".join(
            f"{level}:celery_slo_errors:ratio_rate{window}\n> on ({on})\n{factor} * {budget}"
            for window in (long, short)
        )
        # A share of very few tasks says nothing.
        volume = f"{words.increase('celery_slo_tasks_total', long, *labels)} >= {settings['slo_count']}"
        rules.append(
            Alert(
                "CelerySLOBurn",
                f"{burning}\nand on ({on})\n{volume}",
                severity,
                "A task spends its error budget too fast",
                "{{ $value | humanizePercentage }} of {{ $labels.task }} missed the objective of its {{ $labels.slo }} "
                f"in {long}: the budget is spent {factor} times faster than it lasts, or more.",
                hold=hold,
                dashboard="celeryscope-slo",
                labels=(("window", long),),
            )
        )
    return rules
