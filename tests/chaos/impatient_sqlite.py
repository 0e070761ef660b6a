"""What the Airflow of the chaos suite passes to SQLite: it gives up on its database sooner than that is lost."""

from __future__ import annotations

#: For ``[database] sql_alchemy_connect_args``: seconds to wait for other writers.
CONNECT_ARGS = {"timeout": 10}
