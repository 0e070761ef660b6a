"""The Batch API as a Python client; imports nothing from Airflow."""
