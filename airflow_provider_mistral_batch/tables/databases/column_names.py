"""A column that is not there is named, with the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from airflow_provider_mistral_batch.api.errors import InvalidInputError


def check_columns(wanted: Sequence[str], there: Sequence[str], where: object) -> None:
    """
    Check that all columns are there.

    :param wanted: The columns that are needed.
    :param there: All that there are.
    :param where: What has them, for the message.
    :raises InvalidInputError: When one is missing; names the one that is most like it.
    """
    for name in wanted:
        if name not in there:
            folded = {one.casefold(): one for one in there}
            near = difflib.get_close_matches(name.casefold(), folded, 1)
            meant = f"did you mean {folded[near[0]]!r}?" if near else f"it has {', '.join(there):.200}"
            raise InvalidInputError(f"{where} has no column {name!r}: {meant}")
