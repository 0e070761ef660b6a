"""What a task instance is: who it is, what it leaves behind, how it waits on a worker, and how it ends."""
