"""One batch from requests to landed results: the parts of ``MistralBatchInferenceOperator``."""
