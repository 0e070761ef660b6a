"""From any source of requests to request files that the API accepts. Knows nothing of ``results``."""
