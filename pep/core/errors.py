"""The errors that cross module borders, and nothing else.

A protocol error says which side broke the protocol, because the answer differs: a client is told in its own
protocol, a broken upstream ends the session. `ConfigError`, raised while starting only, belongs to the configuration
file, which both programs read.
"""

from pdp.v1.strict_yaml import ConfigError

__all__ = [
    "ClientProtocolError",
    "ConfigError",
    "DecisionUnavailable",
    "ProtocolError",
    "RequestRefused",
    "ShareExhausted",
    "UpstreamProtocolError",
]


class ProtocolError(Exception):
    """One side sent what its protocol does not allow.

    `code` is the protocol's own error code as text (a SQLSTATE for PostgreSQL); `message` is fit to be shown
    to the client and never repeats what was received.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ClientProtocolError(ProtocolError):
    """The client broke the protocol."""


class UpstreamProtocolError(ProtocolError):
    """The upstream broke the protocol, or asked for what this proxy refuses to do."""


class DecisionUnavailable(Exception):
    """No decision could be obtained. It ends inside the enforcer, as a denial."""


class RequestRefused(DecisionUnavailable):
    """The service answered that it will not decide this request, so the same request again is of no use."""


class ShareExhausted(DecisionUnavailable):
    """The person or workload has as much under way or pending as it may; nobody else is refused for it."""
