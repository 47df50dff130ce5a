"""Every file that is generated, by its path in a checkout."""

from celeryscope_dashboards import exporter, limits, normal, overview, queues, reference, slo, task, workers
from celeryscope_dashboards.board import Board
from celeryscope_dashboards.links import uid

GENERATED = "dashboards/generated"

BOARDS = (
    overview.board,
    task.board,
    queues.board,
    workers.board,
    limits.board,
    slo.board,
    exporter.board,
)


def boards() -> list[Board]:
    """All dashboards, in the order in which they are told."""
    return [board() for board in BOARDS]


def all_files() -> dict[str, str]:
    """Their texts: the dashboards, and the page about them."""
    found = {f"{GENERATED}/{uid(board.name)}.json": normal.text(board.build()) for board in boards()}
    return {**found, reference.PAGE: reference.page(boards())}
