"""The contract between proxies and the decision service.

The messages are generated from proto/pdp/v1 by `make proto`. What has no `_pb2` in its name is written by hand: what
both sides have to do alike, as `digests` and `strict_yaml`.
"""
