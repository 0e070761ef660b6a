"""What a connection's database is: open, with its names, types and errors."""
