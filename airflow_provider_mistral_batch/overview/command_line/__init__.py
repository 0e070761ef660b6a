"""The command line, for whoever sits at a shell: shows, cancels and downloads batch jobs, and sums up their cost."""
