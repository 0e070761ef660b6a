"""Deterministic answers: for each endpoint a body is checked and answered in the endpoint's real shape."""
