"""What Airflow registers and shows for this provider."""

from __future__ import annotations

from typing import Any

from airflow_provider_mistral_batch import __version__

_PACKAGE = "airflow_provider_mistral_batch"
_NAME = "airflow-provider-mistral-batch"
_INTEGRATION = "Mistral Batch"
#: Pages of the documentation that show how something is done, for registries of providers.
_GUIDES = (
    "operators/inference",
    "operators/upload",
    "operators/create",
    "operators/sensor",
    "operators/download",
    "operators/cancel",
    "tables",
    "common_ai",
)


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider's metadata, for the entry point ``apache_airflow_provider``.

    Airflow calls this in every process, so the module imports next to nothing. It validates the result against
    ``airflow/provider_info.schema.json``.
    """
    return {
        "package-name": _NAME,
        "name": "Mistral Batch",
        "description": "Runs LLM workloads through `Mistral's Batch API <https://docs.mistral.ai/capabilities/batch/>`__.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.mistral.ai/capabilities/batch/",
                "how-to-guide": [f"/docs/{_NAME}/{guide}.md" for guide in _GUIDES],
                "tags": ["ai", "llm", "ai-inference", "embeddings"],
            }
        ],
        "hooks": _modules("hooks.mistral_batch"),
        "operators": _modules(
            "operators.upload",
            "operators.create",
            "operators.cancel",
            "operators.download",
            "operators.inference",
        ),
        "sensors": _modules("sensors.mistral_batch"),
        "triggers": _modules("triggers.mistral_batch", "triggers.inference", "triggers.event"),
        "task-decorators": [
            {
                "class-name": f"{_PACKAGE}.decorators.mistral_batch.mistral_batch_task",
                "name": "mistral_batch",
            }
        ],
        "extra-links": [f"{_PACKAGE}.links.mistral_batch.MistralBatchJobLink"],
        "connection-types": [
            {
                "connection-type": "mistral",
                "hook-class-name": f"{_PACKAGE}.hooks.mistral_batch.MistralBatchHook",
                "hook-name": "Mistral",
                "external-services": ["Mistral AI"],
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "login"],
                    "relabeling": {"password": "API Key", "host": "Base URL"},
                    "placeholders": {
                        "host": "https://api.mistral.ai",
                        "password": "from https://console.mistral.ai/api-keys",
                        "extra": '{"timeout": 120, "retries": 5, "default_model": "mistral-small-latest"}',
                    },
                },
                "conn-fields": {
                    "default_model": {
                        "label": "Default Model",
                        "schema": {"type": ["string", "null"]},
                        "description": (
                            "Model to use when neither the task nor its requests name a model or an agent. "
                            "Of uploaded files, only the first rows are read for this."
                        ),
                    },
                    "dialect": {
                        "label": "Dialect",
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["mistral", "openai"],
                            "default": "mistral",
                        },
                        "description": "mistral, or openai for gateways that speak the OpenAI-compatible batch API.",
                    },
                    "deployment": {
                        "label": "Deployment",
                        "schema": {"type": ["string", "null"]},
                        "description": (
                            "Name of this Airflow, needed when several of them share a Mistral workspace. "
                            "Without it, identical Dags would pick up each other's jobs."
                        ),
                    },
                    "rows_have_url": {
                        "label": "Rows Have URL",
                        "schema": {"type": ["boolean", "null"]},
                        "description": (
                            "Add method and url to each row of an uploaded file, for gateways that refuse rows without "
                            "them, such as LiteLLM. Mistral's own API needs neither."
                        ),
                    },
                    "timeout": {
                        "label": "Timeout",
                        "schema": {"type": ["number", "null"], "default": 120},
                        "description": "Seconds to wait for the next byte of a response.",
                    },
                    "retries": {
                        "label": "Retries",
                        "schema": {"type": ["integer", "null"], "minimum": 1, "default": 5},
                        "description": "Attempts per call, including the first.",
                    },
                    "proxies": {
                        "label": "Proxies",
                        "schema": {"type": ["object", "null"]},
                        "description": 'Proxy URL for each scheme, such as {"https": "http://proxy:3128"}.',
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "schema": {"type": ["string", "null"]},
                        "description": "Path of a CA bundle, or false to skip TLS checks (never in production).",
                    },
                },
            }
        ],
    }


def _modules(*modules: str) -> list[dict[str, Any]]:
    names = [f"{_PACKAGE}.{module}" for module in modules]
    return [{"integration-name": _INTEGRATION, "python-modules": names}]
