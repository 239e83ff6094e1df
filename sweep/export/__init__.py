"""A cell's model, made into a form that others read."""
