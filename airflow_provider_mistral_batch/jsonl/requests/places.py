"""Where each accepted row stood in the source, for millions of rows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence


class Places:
    """The file and line of each accepted row: of each run of consecutive lines, only the beginning is kept."""

    def __init__(self) -> None:
        #: The files so far; none if the rows come from Python.
        self.names: list[str] = []
        self._rows = array("Q")
        self._lines = array("Q")
        self._files = array("L")
        # Row and line that would continue the current run.
        self._next = (-1, -1)

    def next_file(self, name: str | None) -> None:
        """Begin with the next file; None if the rows come from Python."""
        if name is not None:
            self.names.append(name)
        self._next = (-1, -1)

    def note(self, row: int, lines: Sequence[int]) -> None:
        """
        Note where accepted rows stand in the current file.

        :param row: Index of the first of them among all accepted rows, from 0.
        :param lines: The line number of each, from 1, in rising order.
        """
        if isinstance(lines, range):
            lines, last = lines[:1], lines[-1]
        else:
            last = lines[-1]
        for line in lines:
            if (row, line) != self._next:
                self._rows.append(row)
                self._lines.append(line)
                self._files.append(len(self.names))
            row += 1
            self._next = (row, line + 1)
        self._next = (self._next[0] + last - self._next[1] + 1, last + 1)

    def of(self, row: int) -> tuple[int, int]:
        """Give the number of the file (from 1, or 0 for rows from Python) and of the line of an accepted row."""
        run = bisect_right(self._rows, row) - 1
        return self._files[run], self._lines[run] + row - self._rows[run]

    def describe(self, line: int) -> str:
        """Describe a line of the current file."""
        return f"{self.names[-1]}, line {line}" if self.names else f"row {line}"
