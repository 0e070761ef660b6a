"""What answers HTTP requests: the API itself, and the control API beside it."""
