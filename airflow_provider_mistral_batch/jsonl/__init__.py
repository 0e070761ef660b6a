"""The data path: request files in, result files out, in constant memory. Imports nothing from Airflow."""
