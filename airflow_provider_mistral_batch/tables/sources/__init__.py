"""Where rows come from: files, databases, data frames, functions."""
