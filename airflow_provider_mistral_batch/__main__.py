"""The command line: ``python -m airflow_provider_mistral_batch``."""

from __future__ import annotations

import sys

from airflow_provider_mistral_batch.overview.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
