"""What people see of batch jobs, on a page or at a shell: without HTTP of its own, and without rendering."""
