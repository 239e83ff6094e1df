"""Result files to tables. Reads nothing but files."""
