"""What the distributed Airflow passes to PostgreSQL."""

from __future__ import annotations

#: For ``[database] sql_alchemy_connect_args``: seconds to wait for a connection.
CONNECT_ARGS = {"connect_timeout": 10}
