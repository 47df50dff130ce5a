"""From names as events carry them to label values: bounded, clean, and as the user's rules want them shown."""

import re

from celeryscope.metrics.catalog import OTHER, UNKNOWN
from celeryscope.naming import NameRules

MAX_LABEL_LENGTH = 200  # characters
MAX_CACHED_NAMES = 20_000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_label(text: str) -> str:
    """Return a label value without control characters and of bounded length."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_LABEL_LENGTH])


class Labels:
    """Labels of names of one sort, tasks or queues. What the rules keep out is `other`; no name is `unknown`.

    Expressions are the user's and may be slow: results are kept per name, and all forgotten where too many are.
    """

    def __init__(self, rules: NameRules) -> None:
        self._rules = rules
        self._any = rules != NameRules()
        self._known: dict[str, str] = {}

    def of(self, name: str | None) -> str:
        """Return the label of a name as an event or a worker tells it."""
        if not name:
            return UNKNOWN
        if not self._any:
            return clean_label(name)
        name = name[:MAX_LABEL_LENGTH]  # no expression has to search a name of a megabyte
        label = self._known.get(name)
        if label is None:
            if len(self._known) >= MAX_CACHED_NAMES:
                self._known.clear()
            shown = self._rules.apply(clean_label(name))
            label = self._known[name] = OTHER if shown is None else clean_label(shown)
        return label
