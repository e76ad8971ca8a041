"""The migrations of the store, run at start."""
