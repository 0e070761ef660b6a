"""
The data path: request files in, result files out, in constant memory. Imports nothing from Airflow.

Three floors, and imports only go down: ``results`` (what came back) uses ``requests`` (what is sent), and both stand on
``lines``, ``custom_ids`` and ``row_ids``.
"""
