"""Files on the local disk and in object stores, behind one interface. Imports Airflow only for object stores."""
