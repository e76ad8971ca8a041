"""What was decided: the decision log and its sinks, what is kept of each decision, and why it was so."""
