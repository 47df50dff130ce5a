"""The demo's third party: it keeps its limits by its own clock, tells of them, repeats itself, and has outages."""

import http.client
import random
from collections.abc import Iterator

import pytest
from click import BadParameter

from celeryscope_demo.provider import (
    ENDPOINTS,
    FIXED,
    PLACES,
    PREVIEWS,
    ROLLING,
    TRANSLATIONS,
    Endpoint,
    client,
    server,
)
from celeryscope_demo.provider.accounting import Account, Accounts
from celeryscope_demo.provider.client import Answer

LIMIT = 30


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def endpoint(kind: str) -> Endpoint:
    return Endpoint("calls", kind, limit=3, window=10.0, announced=True, latency=0.0)


def calls(account: Account, number: int, limit: int = 3) -> list[bool]:
    return [account.call(limit).accepted for _ in range(number)]


def test_a_fixed_window_gives_everything_back_at_its_end() -> None:
    clock = Clock()
    account = Account(endpoint(FIXED), clock)
    clock.now = 1009.0
    assert calls(account, 4) == [True, True, True, False]
    assert account.call(3).reset == pytest.approx(1.0)
    clock.now = 1010.0
    assert calls(account, 4) == [True, True, True, False]
    assert account.tally.accepted == 6
    assert account.tally.refused == 3
    assert account.tally.most == 5


def test_a_rolling_window_gives_each_call_back_when_it_is_old_enough() -> None:
    clock = Clock()
    account = Account(endpoint(ROLLING), clock)
    assert calls(account, 1) == [True]
    clock.now = 1009.0
    assert calls(account, 3) == [True, True, False]
    assert account.call(3).reset == pytest.approx(1.0)
    clock.now = 1010.0
    assert calls(account, 2) == [True, False]
    assert account.call(3).remaining == 0


def test_no_rolling_window_holds_more_than_the_limit_whatever_arrives() -> None:
    clock = Clock()
    account = Account(endpoint(ROLLING), clock)
    chance = random.Random(1)
    accepted: list[float] = []
    for _ in range(500):
        clock.now += chance.expovariate(0.5)
        if account.call(3).accepted:
            accepted.append(clock.now)
    assert len(accepted) > 100
    assert all(later - earlier >= 10.0 for earlier, later in zip(accepted, accepted[3:], strict=False))


def test_where_the_limit_fell_reset_tells_when_there_is_room() -> None:
    clock = Clock()
    account = Account(endpoint(ROLLING), clock)
    for _ in range(3):
        account.call(3)
        clock.now += 1.0
    verdict = account.call(1)
    assert not verdict.accepted
    assert verdict.reset == pytest.approx(9.0)  # when the last of the three is as old as the window


def test_accounts_and_endpoints_are_kept_apart() -> None:
    accounts = Accounts(Clock())
    other = Endpoint("other", FIXED, limit=1, window=10.0, announced=True, latency=0.0)
    assert accounts.call("one", other, 1).accepted
    assert not accounts.call("one", other, 1).accepted
    assert accounts.call("two", other, 1).accepted
    assert accounts.call("one", endpoint(FIXED), 1).accepted
    assert accounts.tallies()["one other"] == {"accepted": 1, "refused": 1, "most": 2}


def test_limits_are_read_from_options() -> None:
    found = server.read_limits((f"{PLACES}=500/2",), latency=0.0)
    assert (found[PLACES].limit, found[PLACES].window, found[PLACES].latency) == (500, 2.0, 0.0)
    assert found[TRANSLATIONS].limit == ENDPOINTS[TRANSLATIONS].limit
    for wrong in ("nobody=1/2", f"{PLACES}=many/2", f"{PLACES}=5"):
        with pytest.raises(BadParameter, match="ENDPOINT=LIMIT/SECONDS"):
            server.read_limits((wrong,), latency=1.0)


class Running:
    """A provider without latency, the incidents that are on, and a client of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.incidents: set[str] = set()
        monkeypatch.setattr(server, "is_on", self.incidents.__contains__)
        self._server = server.serve(0, server.read_limits((), latency=0.0))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def post(self, endpoint: str, number: int = 0, key: str = "", account: str = "one") -> Answer:
        return client.post(self.url, endpoint, account, key, {"arguments": [number]})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    found = Running(monkeypatch)
    yield found
    found.close()


def test_answers_announce_the_limit_where_the_provider_tells_it(running: Running) -> None:
    answer = running.post(PLACES)
    assert answer.status == 200
    assert (answer.limit, answer.remaining) == (LIMIT, LIMIT - 1)
    assert answer.reset is not None
    assert 0 < answer.reset <= 10
    for _ in range(ENDPOINTS[PREVIEWS].limit):
        assert not running.post(PREVIEWS).refused
    secret = running.post(PREVIEWS)
    assert secret.refused
    assert (secret.limit, secret.remaining, secret.reset) == (None, None, None)


def test_a_repeated_key_gets_the_first_result(running: Running) -> None:
    first = running.post(TRANSLATIONS, key="photo:1")
    other = running.post(TRANSLATIONS, key="photo:2")
    again = running.post(TRANSLATIONS, key="photo:1")
    assert first.body == again.body != other.body
    assert again.remaining == ENDPOINTS[TRANSLATIONS].limit - 3


def test_a_few_requests_can_never_be_processed(running: Running) -> None:
    account = iter(range(10_000))
    statuses = [running.post(TRANSLATIONS, number, account=str(next(account))).status for number in range(1000)]
    assert 0 < statuses.count(422) < 20
    number = statuses.index(422)
    assert running.post(TRANSLATIONS, number, account="another").status == 422


def test_limits_fall_while_it_lowers_them(running: Running) -> None:
    running.incidents.add(server.RATE_LIMIT)
    answers = [running.post(TRANSLATIONS, number) for number in range(5)]
    assert [answer.refused for answer in answers] == [False, False, False, True, True]
    assert answers[-1].limit == 3
    assert answers[-1].reset is not None
    running.incidents.clear()
    assert running.post(TRANSLATIONS).limit == ENDPOINTS[TRANSLATIONS].limit


def test_an_outage_answers_with_503_or_not_at_all(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.incidents.add(server.OUTAGE)
    monkeypatch.setattr(server, "HANGING", 0.0)
    assert running.post(PLACES).status == 503
    monkeypatch.setattr(server, "HANGING", 1.0)
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    client._connections.__dict__.clear()
    with pytest.raises(TimeoutError):
        running.post(PLACES)
    client._connections.__dict__.clear()
    running.incidents.clear()
    assert running.post(PLACES).status == 200


def test_what_is_no_call_is_told_so(running: Running) -> None:
    assert running.post("nowhere").status == 404
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=5.0)
    for headers, body, status in (({}, "{}", 401), ({"Account": "one"}, "[]", 400), ({"Account": "one"}, "{", 400)):
        connection.request("POST", f"/{PLACES}", body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()
