"""Where a query of a dashboard can be proven: what reaches back for a day, what only RabbitMQ tells, and all others."""

import promql_parser as ast

from support.dashboards import Target
from support.grafana_variables import Resolver, Window
from support.promql import nodes, selectors

# What a Redis or Valkey cannot tell (docs/operations.md).
NOT_ON_REDIS = {"celery_queue_delayed", "celery_queue_consumers", "celery_queue_bytes", "celery_broker_alarm"}
# What takes an hour or more to come about: a task is given up, an objective of days is missed.
SLOW = {"workers/Orphaned in 5 minutes, by task", "slo/Objectives missed in 1 day"}
DAY = 86_400.0  # seconds
WINDOW = Window(start=0.0, end=3_600.0, scrape=15.0)


def parsed(target: Target) -> ast.Expr:
    """The query, with all variables at All."""
    return ast.parse(Resolver(target.panel.dashboard, WINDOW).resolved(target.expr))


def reach(target: Target) -> float:
    """How many seconds it looks back by offsets, at the most."""
    expr = parsed(target)
    offsets = [selector.offset for selector in selectors(expr)]
    offsets += [node.offset for node in nodes(expr) if isinstance(node, ast.SubqueryExpr)]
    return max((offset.total_seconds() for offset in offsets if offset), default=0.0)


def of_the_past(target: Target) -> bool:
    """Whether a demo of minutes has nothing that it could show."""
    return reach(target) >= DAY or target.panel.name in SLOW


def of_rabbitmq(target: Target) -> bool:
    """Whether it shows what no Redis or Valkey tells."""
    return any(selector.name in NOT_ON_REDIS for selector in selectors(parsed(target)))
