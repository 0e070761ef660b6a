"""What is sent is sent once: request files and batch jobs, found again by any later try."""
