"""Workers, by Celery's inspection: first what is cheap to tell, then what each holds, where that is cheap too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeryscope.clock import Clock
from celeryscope.pollers.mailbox import LONGEST_QUESTION, Commands, Mailbox, Replies
from celeryscope.pollers.worker_replies import parse_concurrency, parse_running, parse_worker
from celeryscope.readings import RunningReading, WorkerReading

FACTS: Commands = {
    "stats": {},
    "active_queues": {},
    "registered": {"taskinfoitems": ["rate_limit", "send_events"]},
}
# `safe` leaves the arguments of tasks out.
RUNNING: Commands = {"active": {"safe": True}}
# In the order of a task's life: one that goes on between two answers is told twice, rather than never.
LISTS: Commands = {"scheduled": {}, "reserved": {}, **RUNNING}

DISCOVERY_INTERVAL = 300.0  # seconds between two questions to everybody
PREFETCH_MULTIPLIER = 4  # Celery's own default of `worker_prefetch_multiplier`
MOST_LISTED = 1_000  # tasks that a worker may hold beyond its usual prefetch to be asked for all of them
HEAVY = 1024 * 1024  # bytes of lists: tasks are few and their arguments large, which `reserved` and `scheduled` repeat
REST = 600.0  # seconds that a worker with such lists is not asked for them


class WorkersPoller:
    """Asks the workers that are known; now and then it asks everybody, to find those that do not beat."""

    def __init__(
        self,
        mailbox: Mailbox,
        known: Callable[[], Sequence[str]],
        system: Callable[[str], str | None],
        clock: Clock,
        *,
        longest: float = LONGEST_QUESTION,
    ) -> None:
        """`known` returns the node names to ask, `system` what the heartbeats of one of them say in `sw_sys`.

        `longest` is how many seconds a poll may take, however many answer.
        """
        self._mailbox = mailbox
        self._known = known
        self._system = system
        self._clock = clock
        self._longest = longest
        self._discovered_at: float | None = None
        self._resting: dict[str, float] = {}  # elapsed seconds until when a worker is not asked for lists

    def poll(self, *, discover: bool = False, only: Sequence[str] = ()) -> list[WorkerReading]:
        """Return a reading of every worker that answered; raise PollError where the broker fails.

        The first poll asks everybody, and so does one every few minutes and where `discover` says so. Where some are
        named, `only` they are asked.
        """
        asked_at = self._clock.now().elapsed
        if self._discovered_at is None or asked_at - self._discovered_at >= DISCOVERY_INTERVAL:
            discover = True
        if only:
            facts = self._mailbox.ask(FACTS, only, at_most=self._longest)
        elif discover:
            facts = self._mailbox.ask({**FACTS, **RUNNING}, None, at_most=self._longest)
            self._discovered_at = asked_at
        else:
            known = list(self._known())
            facts = self._mailbox.ask(FACTS, known, at_most=self._longest) if known else {}
        # Who is mute has cost one timeout by now, and is not asked again.
        asked_again_at = self._clock.now().elapsed
        lists = self._ask_for_lists(facts, asked_at + self._longest - asked_again_at)
        readings = []
        for name, answers in facts.items():
            # What ran at first may have ended since, when its end was told to one who listened.
            earlier = answers.pop("active", None)
            told = answers | lists.get(name, {})
            readings.append(parse_worker(name, told, self._system(name), asked_again_at, earlier))
        return [reading for reading in readings if reading is not None]

    def running(self, workers: Sequence[str]) -> list[RunningReading]:
        """Return what these workers run; raise PollError where the broker fails."""
        asked_at = self._clock.now().elapsed
        replies = self._mailbox.ask(RUNNING, workers)
        tasks = {name: parse_running(answers.get("active")) for name, answers in replies.items()}
        return [RunningReading(name, asked_at, uuids) for name, uuids in tasks.items() if uuids is not None]

    def close(self) -> None:
        """Close the connection, where there is one."""
        self._mailbox.close()

    def _ask_for_lists(self, facts: Replies, at_most: float) -> Replies:
        now = self._clock.now().elapsed
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        cheap = {name for name, answers in facts.items() if is_cheap_to_list(answers.get("stats"))}
        cheap -= self._resting.keys()
        end = now + at_most
        lists: Replies = {}
        for commands, workers in ((LISTS, cheap), (RUNNING, facts.keys() - cheap)):
            remaining = end - self._clock.now().elapsed
            if workers and remaining > 0:
                lists |= self._mailbox.ask(commands, sorted(workers), at_most=remaining)
                if commands is LISTS:
                    heavy = (name for name, size in self._mailbox.sizes.items() if size > HEAVY)
                    self._resting.update(dict.fromkeys(heavy, now + REST))
        return lists


def is_cheap_to_list(stats: Any) -> bool:
    """Whether a worker holds so few tasks that it can be asked for all of them.

    Its prefetch count bounds them, and is raised by one for every task whose ETA is ahead; 0 is no bound.
    """
    if not isinstance(stats, Mapping):
        return False
    prefetch, concurrency = stats.get("prefetch_count"), parse_concurrency(stats)
    if not isinstance(prefetch, int) or not isinstance(concurrency, int):
        return False
    return 0 < prefetch <= concurrency * PREFETCH_MULTIPLIER + MOST_LISTED
