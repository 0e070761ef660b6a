"""Table in, table out: rows from where they live become requests, and answers come back as columns beside them."""
