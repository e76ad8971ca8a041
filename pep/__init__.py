"""The enforcement proxies: one package per protocol over one core.

A proxy stands where its target stood, asks the decision service before anything is forwarded, and applies
what the answer obliges it to. Nothing here decides; policies do.
"""

import pdp.v1  # noqa: F401 - before anything imports gRPC, which it tells how to behave
