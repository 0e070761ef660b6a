"""What executes the batch jobs, in a process of its own."""
