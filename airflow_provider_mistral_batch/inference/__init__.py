"""One batch from requests to landed results: what ``MistralBatchInferenceOperator`` is made of."""
