"""What a team sees of its batches beside the logs: lineage, metrics, traces."""
