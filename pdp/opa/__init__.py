"""Open Policy Agent as a child of the decision service: its process, the questions put to it, what it has loaded."""
