"""Results so far, kept in a file, so that a benchmark that was interrupted goes on where it was."""

import json
from pathlib import Path
from typing import Any


class Progress:
    """One JSON line per result. A half-written last line counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    entry = json.loads(line)
                    self._results[entry["key"]] = entry["result"]

    def get(self, key: str) -> Any | None:
        return self._results.get(key)

    def put(self, key: str, result: Any) -> None:
        self._results[key] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"key": key, "result": result}) + "\n")
