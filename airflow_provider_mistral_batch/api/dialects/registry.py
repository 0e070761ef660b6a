"""All dialects by name: a new one is a file of its own and an entry here."""

from __future__ import annotations

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.dialects.base import Dialect
from airflow_provider_mistral_batch.api.dialects.mistral import MistralDialect
from airflow_provider_mistral_batch.api.dialects.openai import OpenAIDialect

#: The connection form's list in ``get_provider_info`` has the same names; a test compares them.
DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (MistralDialect(), OpenAIDialect())}


def dialect_named(name: str) -> Dialect:
    """
    Find a dialect by its name.

    :param name: A key of :data:`DIALECTS`.
    :raises InvalidInputError: When there is no such dialect.
    """
    check_choice("dialect", name, DIALECTS)
    return DIALECTS[name]
