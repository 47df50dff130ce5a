"""What the provider counts: calls by account and endpoint, in windows of its own clock."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from celeryscope_demo.provider import FIXED, Endpoint

Clock = Callable[[], float]


@dataclass(frozen=True)
class Verdict:
    """What became of one call. `reset`: seconds until there is more."""

    accepted: bool
    limit: int
    remaining: int
    reset: float


@dataclass
class Tally:
    """What arrived. `most`: the most calls in any window, refused ones included."""

    accepted: int = 0
    refused: int = 0
    most: int = 0


class Account:
    """The calls of one account to one endpoint. Not for several threads at once."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self.tally = Tally()
        self._endpoint = endpoint
        self._clock = clock
        self._arrivals: deque[float] = deque()  # of the present window, refused ones included
        self._accepted: deque[float] = deque()  # those that count against the limit

    def call(self, limit: int) -> Verdict:
        """Judge a call that arrives now."""
        now = self._clock()
        window = self._endpoint.window
        fixed = self._endpoint.kind == FIXED
        # A fixed window takes everything away at its end, a rolling one each call when it is as old as the window.
        start = now - now % window if fixed else now - window
        for calls in (self._arrivals, self._accepted):
            while calls and (calls[0] < start if fixed else calls[0] <= start):
                calls.popleft()
        self._arrivals.append(now)
        self.tally.most = max(self.tally.most, len(self._arrivals))
        accepted = len(self._accepted) < limit
        if accepted:
            self._accepted.append(now)
            self.tally.accepted += 1
        else:
            self.tally.refused += 1
        # Where the limit fell, more than one call has to grow old before there is room.
        frees = start if fixed else self._accepted[max(0, len(self._accepted) - limit)]
        return Verdict(accepted, limit, max(0, limit - len(self._accepted)), frees + window - now)


class Accounts:
    """All accounts, by name and endpoint. Not for several threads at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[tuple[str, str], Account] = {}

    def call(self, account: str, endpoint: Endpoint, limit: int) -> Verdict:
        """Judge a call of an account to an endpoint that arrives now."""
        found = self._accounts.get((account, endpoint.name))
        if found is None:
            found = self._accounts[account, endpoint.name] = Account(endpoint, self._clock)
        return found.call(limit)

    def tallies(self) -> dict[str, dict[str, int]]:
        """What arrived so far, by "ACCOUNT ENDPOINT"."""
        return {" ".join(names): asdict(account.tally) for names, account in self._accounts.items()}
