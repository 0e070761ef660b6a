"""Triggers of the provider. Its operators and sensors import them when they defer: parsing a Dag needs none."""
