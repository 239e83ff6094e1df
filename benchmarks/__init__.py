"""Speed and memory, measured as a user would meet them; one command, one table."""
