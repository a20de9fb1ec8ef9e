"""Every way a request can be refused by a business rule, each with a stable `code` and an HTTP `status`.

    DomainError                      code, status, message safe to show a client
    ├── NotFound            404      the thing does not exist, or is not yours (the same answer for both)
    ├── Forbidden           403      you may see it, but not do this
    ├── Unauthenticated     401      no valid credential
    ├── Conflict            409      the state of the thing forbids it now
    ├── InvalidRequest      422      well-formed, but breaks a rule of its own fields
    └── BadRequest          400      a header or the envelope is wrong

The class gives the status; the `code` says which rule. Never match on message text. Subclasses with their own code
live beside the rule that raises them.
"""


class DomainError(Exception):
    """A refusal a client can act on.

    `code` is stable for ever, `message` may be reworded; `field` names the request field at fault, if one is.
    """

    status = 400

    def __init__(self, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class BadRequest(DomainError):
    """A header or the envelope is wrong."""

    status = 400


class Unauthenticated(DomainError):
    """No valid credential."""

    status = 401


class Forbidden(DomainError):
    """Known, but not allowed to do this."""

    status = 403


class NotFound(DomainError):
    """Does not exist, or belongs to someone else: the caller cannot tell which."""

    status = 404

    def __init__(self, noun: str) -> None:
        super().__init__("not_found", f"No such {noun}.")


class Conflict(DomainError):
    """The present state forbids it."""

    status = 409


class AlreadyDone(Conflict):
    """The same request was carried out under the same key so long ago that its answer is forgotten."""

    def __init__(self) -> None:
        super().__init__("already_done", "This request was carried out before, and its answer is no longer kept.")


class InvalidRequest(DomainError):
    """Well-formed, but breaks a rule of its fields."""

    status = 422
