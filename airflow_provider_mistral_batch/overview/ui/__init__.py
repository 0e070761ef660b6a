"""The page of batches in Airflow's own UI."""
