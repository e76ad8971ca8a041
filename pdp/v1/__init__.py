"""The contract between proxies and the decision service.

The messages are generated from proto/pdp/v1 by `make proto`; `digests` and `strict_yaml` are written by hand.
"""
