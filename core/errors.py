"""What the business refuses. The web layer maps each to one problem+json answer."""

from __future__ import annotations


class CoreError(Exception):
    """Anything that the core refuses on purpose. ``code`` is stable, ``args[0]`` is for people."""

    code = "error"


class NotFound(CoreError):
    """It does not exist, or the actor may not know that it does (T-G2)."""

    code = "not_found"


class Conflict(CoreError):
    """Somebody was first: the version, key or state is not what the caller believed."""

    code = "conflict"


class TooLate(Conflict):
    """The answer has left, or may have left: it cannot be cancelled or edited any more (F-S14)."""

    code = "too_late"


class Invalid(CoreError):
    """The values are not usable; ``fields`` says which."""

    code = "invalid"

    def __init__(self, text: str, *, fields: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.fields = fields or {}


class PermissionDenied(CoreError):
    """Only for actions on things that the actor may see; otherwise it is NotFound."""

    code = "forbidden"
