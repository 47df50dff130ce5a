"""The workers, asked twice: everybody first, then by name those that are heard, or have not answered everything."""

from collections.abc import Collection

from celeryscope.check.answers import TASK_ITEMS, parse_answers
from celeryscope.check.facts import WorkerFacts
from celeryscope.clock import Clock
from celeryscope.pollers.mailbox import Commands, Mailbox, Replies
from celeryscope.pollers.workers import LISTS, RUNNING, is_cheap_to_list

FACTS: Commands = {"stats": {}, "active_queues": {}, "registered": {"taskinfoitems": list(TASK_ITEMS)}}
SETTINGS: Commands = {"conf": {"with_defaults": True}}  # some 6 kB: of many workers, all else comes first
QUESTIONS: Commands = {**FACTS, **SETTINGS}
LONGEST_ROUND = 2.0  # seconds for one of the questions


class Asking:
    """Asks workers and keeps what they answered: `workers` may be read at any time, from another thread too."""

    def __init__(self, mailbox: Mailbox, clock: Clock, until: float) -> None:
        """No answer is waited for beyond `until` (elapsed seconds)."""
        self._mailbox, self._clock, self._until = mailbox, clock, until
        self._answers: Replies = {}
        self.workers: dict[str, WorkerFacts] = {}

    @property
    def unusable(self) -> frozenset[str]:
        """The workers whose answers tell too little, or not what Celery's do."""
        return frozenset(self._answers.keys() - self.workers.keys())

    def ask(self) -> None:
        """Ask everybody; raises PollError where the broker fails."""
        self._ask(FACTS, None)
        self._round(SETTINGS, list(self._answers))

    def lacking(self, heard: Collection[str]) -> set[str]:
        """The workers, of these and of those that answered, that have not answered everything."""
        names = self._answers.keys() | set(heard)
        return {name for name in names if QUESTIONS.keys() - self._answers.get(name, {}).keys()}

    def ask_again(self, names: Collection[str]) -> None:
        """Ask these what any of them has not answered; raises PollError where the broker fails."""
        missing = {command for name in names for command in QUESTIONS.keys() - self._answers.get(name, {}).keys()}
        self._ask({command: QUESTIONS[command] for command in QUESTIONS if command in missing}, names)

    def close(self) -> None:
        """Close the connection."""
        self._mailbox.close()

    def _ask(self, commands: Commands, names: Collection[str] | None) -> None:
        told = {name: self._answers[name] for name in self._round(commands, names)}
        unlisted = {name for name, answers in told.items() if "stats" in answers and "active" not in answers}
        cheap = {name for name in unlisted if is_cheap_to_list(told[name]["stats"])}
        self._round(LISTS, cheap)
        self._round(RUNNING, unlisted - cheap)

    def _round(self, commands: Commands, names: Collection[str] | None) -> Collection[str]:
        """Ask once, and make facts of what comes; return who answered."""
        asked_at = self._clock.now().elapsed
        at_most = min(LONGEST_ROUND, self._until - asked_at)
        if at_most <= 0 or (names is not None and not names):
            return ()
        replies = self._mailbox.ask(commands, None if names is None else sorted(names), at_most=at_most)
        for name, answers in replies.items():
            told = self._answers[name] = self._answers.get(name, {}) | answers
            worker = parse_answers(name, told, asked_at)
            if worker is not None:
                self.workers[name] = worker
        return replies.keys()
