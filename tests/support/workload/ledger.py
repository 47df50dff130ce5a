"""What tasks and producer did, by their own account: append-only files of JSON lines, one file per process.

Nothing here passes through Celery: a record is on disk before the deed it describes.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """Writes to, and reads all of, one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, what: str, **fields: Any) -> None:
        """Append one record, with the time of this process's clock."""
        line = json.dumps({"what": what, "time": time.time(), **fields}) + "\n"
        descriptor = os.open(self.folder / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, file by file."""
        yield from self.more({})

    def more(self, read: dict[Path, int]) -> Iterator[dict[str, Any]]:
        """Records that are new since the last call. `read`: how many bytes of each file are known; it is updated."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            read[path] = read.get(path, 0) + len(whole)
            yield from map(json.loads, whole.splitlines())

    def once(self, mark: str) -> bool:
        """Whether this is the first call ever with this mark, in whatever process."""
        try:
            os.close(os.open(self.folder / f"{mark}.mark", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
