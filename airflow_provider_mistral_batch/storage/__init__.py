"""Where files are: local paths and object storage, behind one interface. Imports nothing from Airflow until it must."""
