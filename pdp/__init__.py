"""The decision service: authenticates clients, asks OPA for a verdict, keeps approvals and records."""
