"""The decision service: authenticates clients, asks OPA for a verdict, keeps approvals and records."""

import pdp.v1  # noqa: F401 - before anything imports gRPC, which it tells how to behave
