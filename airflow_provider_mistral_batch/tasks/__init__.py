"""What a task instance is and does: its identity, its destination, its XComs, its wait on a worker, how it ends."""
