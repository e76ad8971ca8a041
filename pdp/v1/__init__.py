"""The contract between proxies and the decision service.

The messages are generated from proto/pdp/v1 by `make proto`. What has no `_pb2` in its name is written by hand: what
both sides have to do alike, as `digests` and `strict_yaml`.
"""

import os

# Both sides start programs while calls are under way, and none of these uses gRPC. The library would stop its threads
# around each fork and wait for them; one that connects again and again just then can keep the process there for ever.
# It looks when the first channel or server is made.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
