"""What can go wrong, as a tree. A branch exists only where a caller acts differently.

``ConfigError`` stands outside the tree on purpose, so that no handler below hides it.
"""

from __future__ import annotations

from datetime import timedelta


class ConfigError(Exception):
    """Stops start-up. ``problems`` lists everything that is wrong, each with what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class GatewayError(Exception):
    """Anything that the gateway itself raises on purpose."""


class ChannelError(GatewayError):
    """Trouble with a channel, not with one message."""

    def __init__(self, text: str, *, code: str, retry_after: timedelta | None = None) -> None:
        super().__init__(text)
        self.code = code  #: one word for the health page: login, tls, connection, throttled, folder, protocol, ...
        self.retry_after = retry_after


class PeerUnavailable(ChannelError):
    """Connection trouble or a temporary refusal: come back later."""


class PeerBroke(ChannelError):
    """The peer said something that it must not say: drop the connection and start afresh."""


class ChannelMisconfigured(ChannelError):
    """Login, TLS, folder or token: a person has to mend it; nothing is hammered meanwhile."""


class LeaseLost(GatewayError):
    """Another owner took over: stop, write nothing more."""
