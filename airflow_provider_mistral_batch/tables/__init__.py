"""Table in, table out: rows from where they live become requests, and answers come back as columns beside them."""

from airflow_provider_mistral_batch.tables.answers import AnswerColumns
from airflow_provider_mistral_batch.tables.sources.base import RowSource
from airflow_provider_mistral_batch.tables.sources.documents import Documents
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.sources.sql import SqlRows
from airflow_provider_mistral_batch.tables.targets.sql import SqlTable

__all__ = ["AnswerColumns", "Documents", "FileRows", "RowSource", "SqlRows", "SqlTable"]
