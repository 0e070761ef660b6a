"""What our tasks tell OpenLineage: the datasets that they read and write, and facts about the batch."""
