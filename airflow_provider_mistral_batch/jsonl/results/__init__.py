"""From the API's result files to landed answers and failures, with an outcome for every request."""
