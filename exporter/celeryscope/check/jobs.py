"""Questions that are asked at the same time, each of which may never be answered."""

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from celeryscope.clock import Clock
from celeryscope.diagnosis import describe

T = TypeVar("T")


class Job(Generic[T]):
    """Runs a function in a thread that nobody has to wait for."""

    def __init__(self, name: str, run: Callable[[], T], clock: Clock) -> None:
        self._clock = clock
        self.value: T | None = None
        self.failure: str | None = None  # one line, credentials masked
        self._thread = Thread(target=self._run, args=(run,), name=f"check {name}", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def wait(self, until: float) -> T | None:
        """Return what the function returned; None where it failed, or has not ended by `until` (elapsed seconds)."""
        self._thread.join(max(0.0, until - self._clock.now().elapsed))
        if not self.over and self.failure is None:
            self.failure = "no answer in time"
            return None
        return self.value

    def _run(self, run: Callable[[], T]) -> None:
        try:
            self.value = run()
        except Exception as error:  # noqa: BLE001  # what fails is told beside what did not: a look brings what it can
            self.failure = describe(error)
