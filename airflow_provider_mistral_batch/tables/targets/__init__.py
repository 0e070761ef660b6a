"""Where tables of answers go, beside the files in the destination."""
