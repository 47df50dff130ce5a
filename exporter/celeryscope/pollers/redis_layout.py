"""Where kombu keeps what in Redis, as the channel of this broker is configured (`kombu/transport/redis.py`)."""

from dataclasses import dataclass
from typing import Any

_GLOB = {ord(character): f"\\{character}" for character in "\\*?[]^"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of keys, whole, and how they are made of names of queues. `global_keyprefix` is in all of them."""

    prefix: str
    lists: tuple[tuple[int, str], ...]  # priority, and what follows a queue's name: in the order of delivery
    separator: str  # of the fields of a binding
    bindings: str  # what an exchange's set of bindings is called, up to the exchange's name
    unacked: str | None  # hash: delivery tag -> [message, exchange, routing key]; None without acknowledgements
    unacked_index: str | None  # sorted set: delivery tag, Unix seconds of its delivery
    visibility_timeout: float | None  # seconds

    @classmethod
    def of(cls, channel: Any) -> "Layout":
        """Return the layout of a kombu Redis channel."""
        prefix: str = channel.global_keyprefix
        # kombu takes the first list that has a message, in the order of `priority_steps`; several steps may share one.
        suffixes: dict[str, int] = {}
        for step in channel.priority_steps:
            # It has no public name.
            suffixes.setdefault(channel._q_for_pri("", step), int(channel.priority(step)))  # noqa: SLF001
        acknowledges = bool(channel.ack_emulation)
        return cls(
            prefix=prefix,
            lists=tuple((priority, suffix) for suffix, priority in suffixes.items()),
            separator=channel.sep,
            bindings=prefix + channel.keyprefix_queue % "",
            unacked=prefix + channel.unacked_key if acknowledges else None,
            unacked_index=prefix + channel.unacked_index_key if acknowledges else None,
            visibility_timeout=float(channel.visibility_timeout) if acknowledges else None,
        )

    @property
    def bindings_pattern(self) -> str:
        """The pattern of SCAN that every set of bindings matches, and no other key that kombu makes."""
        return f"{self.bindings.translate(_GLOB)}*"

    def keys(self, queue: str) -> list[str]:
        """Return the lists of a queue, in the order of delivery."""
        return [f"{self.prefix}{queue}{suffix}" for _, suffix in self.lists]

    def exchange(self, key: bytes) -> str | None:
        """Return the exchange whose bindings a key holds; None for another key."""
        try:
            name = key.decode()
        except UnicodeDecodeError:
            return None
        return name.removeprefix(self.bindings) if name.startswith(self.bindings) else None
