"""The same rules and routes with all durations divided by one factor, for those who cannot wait for an alert."""

import re

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

# Where rules and routes of this repository have durations: ranges, offsets, `for`, Alertmanager's waits, and an age
# that an expression compares with.
_DURATION = re.compile(
    r"(?P<before>\[|\b(?:offset |for: |group_\w+: |repeat_interval: ))(?P<number>\d+)(?P<unit>[smhdw])\b"
)
_AGE = re.compile(r"(?P<before>process_start_time_seconds < )(?P<number>\d+)")


def hurried(text: str, factor: float) -> str:
    """A rule file or a configuration of Alertmanager, with durations of a second at least."""
    if factor == 1:
        return text
    text = _DURATION.sub(lambda found: f"{found['before']}{_shorter(found, factor)}s", text)
    return _AGE.sub(lambda found: f"{found['before']}{max(1, round(int(found['number']) / factor))}", text)


def _shorter(found: re.Match[str], factor: float) -> int:
    seconds = int(found["number"]) * UNITS[found["unit"]]
    return max(1, round(seconds / factor)) if seconds else 0
