"""From names that events carry to names that are shown: rewritten, kept or kept out, by the user's expressions."""

import re
from dataclasses import dataclass
from typing import NamedTuple


class Rename(NamedTuple):
    """Rewrites every match in a name. The replacement may refer to groups, as that of `re.sub`."""

    pattern: re.Pattern[str]
    replacement: str

    def __str__(self) -> str:
        return f"{self.pattern.pattern}=>{self.replacement}"

    def rewrite(self, name: str) -> str:
        """Return the name with every match rewritten; what matches nothing right behind a match is part of it.

        Else `.*=>x` would make two of every name: all of it, and the nothing at its end.
        """
        end = -1

        def rewritten(match: re.Match[str]) -> str:
            nonlocal end
            trailing, end = match.start() == match.end() == end, match.end()
            return "" if trailing else match.expand(self.replacement)

        return self.pattern.sub(rewritten, name)


@dataclass(frozen=True, slots=True)
class NameRules:
    """Rewriting in order, then what is kept: of the rewritten name, as a whole. What is kept out beats what is kept."""

    rename: tuple[Rename, ...] = ()
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

    def apply(self, name: str) -> str | None:
        """Return the name to show; None for one that is kept out, or of which rewriting leaves nothing."""
        for rename in self.rename:
            name = rename.rewrite(name)
        return name if name and self._keeps(name) else None

    def _keeps(self, name: str) -> bool:
        if self.include and not any(pattern.fullmatch(name) for pattern in self.include):
            return False
        return not any(pattern.fullmatch(name) for pattern in self.exclude)
