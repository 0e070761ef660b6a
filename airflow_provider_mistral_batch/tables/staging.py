"""Rows on the local disk, put into the order of a table's source in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

#: The column that staged rows have first: the ``custom_id``.
ID = "custom_id "

#: The column that it becomes: the row's number in the source, from 0; null if the source has no such row.
PLACE = "place "

#: Bytes of the rows of one step, about.
BYTES_IN_STEP = 8 * 1000 * 1000
_MOST_STEPS = 400

# The step of rows without a place.
_NOWHERE = -1


class Staged:
    """
    Rows in any order, on the local disk.

    :param path: A file for them; further files are made beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # All ids are needed at once, and of the rest a batch at a time.
        self._ids_path = path.with_name(f"{path.name}-ids")
        self._ids: Any = None
        self._rest: Any = None
        self._steps: dict[int, Path] = {}
        self._rows_in_step = 1
        # Of the step that is read: its number, and its rows that were not given yet.
        self._number = _NOWHERE
        self._open: pyarrow.Table | None = None
        self.rows = 0
        self.bytes = 0

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Add rows; their first column is :data:`ID`."""
        import pyarrow

        ids, rest = batch.select([0]), batch.select(range(1, batch.num_columns))
        if self._rest is None:
            self._ids = pyarrow.ipc.new_stream(str(self._ids_path), ids.schema)
            self._rest = pyarrow.ipc.new_stream(str(self._path), rest.schema)
        self._ids.write_batch(ids)
        self._rest.write_batch(rest)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes

    @property
    def rows_in_step(self) -> int:
        """How many places one step should have, so that its rows fit into memory."""
        per_row = 1 + self.bytes // (1 + self.rows)
        return max(1, BYTES_IN_STEP // per_row)

    def sort(self, ids: pyarrow.Array, rows_in_step: int) -> None:
        """
        Find the place of each row, and put the rows of each step into a file.

        :param ids: The id of each place; null for a place that no row belongs to.
        :param rows_in_step: How many places a step has.
        """
        import pyarrow
        from pyarrow import compute

        self._rows_in_step = rows_in_step
        if self._rest is None:
            return
        self._ids.close()
        self._rest.close()
        places = compute.index_in(
            pyarrow.chunked_array([batch.column(0) for batch in _batches(self._ids_path)]),
            value_set=ids,
            skip_nulls=True,
        )
        self._ids_path.unlink()
        writers: dict[int, Any] = {}
        start = 0
        for batch in _batches(self._path):
            place = places.slice(start, batch.num_rows).combine_chunks()
            start += batch.num_rows
            batch = batch.add_column(0, PLACE, place)
            for step, some in _by_step(batch, rows_in_step):
                if step not in writers:
                    self._steps[step] = self._path.with_name(f"{self._path.name}-{step}")
                    writers[step] = pyarrow.ipc.new_stream(str(self._steps[step]), some.schema)
                writers[step].write_batch(some)
        for writer in writers.values():
            writer.close()
        self._path.unlink()

    def places(self, start: int, end: int) -> pyarrow.Table | None:
        """
        Give the rows of some places, in the order of these, and forget them.

        :param start: The first place; never one before those that were asked for.
        :param end: The place after the last, of the same step.
        :return: The rows; None if their step has none.
        """
        from pyarrow import compute

        number = start // self._rows_in_step
        if number != self._number:
            self._number, self._open = number, self._step(number)
        if self._open is None:
            return None
        count = compute.sum(compute.less(self._open.column(PLACE), end), min_count=0).as_py()
        table, self._open = self._open.slice(0, count), self._open.slice(count)
        return table

    def nowhere(self) -> pyarrow.Table | None:
        """Give the rows without a place, and forget them; None if there are none."""
        return self._step(_NOWHERE)

    def _step(self, number: int) -> pyarrow.Table | None:
        """Give the rows of a step in the order of their places."""
        import pyarrow

        path = self._steps.pop(number, None)
        if path is None:
            return None
        with pyarrow.ipc.open_stream(str(path)) as reader:
            table = reader.read_all()
        path.unlink()
        return table.sort_by(PLACE)


def _batches(path: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    # Not mapped: that would count as memory, all of the file.
    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
        yield from reader


def _by_step(batch: pyarrow.RecordBatch, rows_in_step: int) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """Cut rows by the step of their place."""
    from pyarrow import compute

    steps = compute.fill_null(compute.divide(batch.column(0), rows_in_step), _NOWHERE)
    least, most = compute.min_max(steps).values()
    if least == most:
        yield least.as_py(), batch
        return
    order = compute.sort_indices(steps)
    batch, steps = batch.take(order), steps.take(order)
    start = 0
    for run in compute.value_counts(steps):
        step, count = run.values()
        yield step.as_py(), batch.slice(start, count.as_py())
        start += count.as_py()


def rows_in_step(total: int, *staged: Staged) -> int:
    """
    Choose how many places a step has.

    :param total: All places.
    :param staged: What is to be put into order.
    """
    return max(1, -(-total // _MOST_STEPS), min(20_000, *(one.rows_in_step for one in staged)))
