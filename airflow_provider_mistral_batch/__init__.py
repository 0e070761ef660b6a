"""An Apache Airflow provider that runs LLM work through Mistral's Batch API."""

__version__ = "0.1.0"
