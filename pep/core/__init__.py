"""What every enforcement proxy shares. Knows no protocol."""
