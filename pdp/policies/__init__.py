"""From the files that security teams write to one checked bundle."""
