"""One file for each change of the shape, oldest first."""
