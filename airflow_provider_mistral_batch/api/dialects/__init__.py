"""The dialects of the Batch API: one file each, what all of them must have in ``base``, their list in ``registry``."""
