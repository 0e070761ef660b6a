"""Sends request files and batch jobs once; any later try finds them."""
