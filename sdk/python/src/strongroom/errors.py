"""The exceptions of this package.

Each text says what failed and then, after ``help:``, what to do. No text contains a secret value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = [
    "Conflict",
    "Denied",
    "Error",
    "Exhausted",
    "Expired",
    "InvalidBatch",
    "InvalidName",
    "InvalidReport",
    "InvalidValue",
    "NotAvailable",
    "NotFound",
    "OutsideComponent",
    "Partial",
    "Unavailable",
]


class Error(Exception):
    """The base class of the exceptions of this package.

    ``status_code`` is the HTTP status with which Azure Key Vault reports the same condition.
    """

    status_code = 500

    def __init__(self, message: str, *, operation: str = "", names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        #: The operation as the policy spells it, such as ``get``; empty if none is concerned.
        self.operation = operation
        #: The secrets concerned, in lower case where the host named them.
        self.names = tuple(names)


class Denied(Error):
    """The policy does not grant this operation. It makes no difference whether the secret exists.

    Retrying does not help: the policy must change. The text names the line that would allow it.
    """

    status_code = 403


class NotFound(Error):
    """The policy grants the operation, but there is no usable secret of this name."""

    status_code = 404


class InvalidName(Error):
    """The name is not 1 to 127 characters of ``0-9 a-z A-Z -``."""

    status_code = 400


class InvalidValue(Error):
    """The value is longer than 25 KiB."""

    status_code = 400


class InvalidBatch(Error):
    """The batch has more than 256 names, or one name twice in any spelling."""

    status_code = 400


class InvalidReport(Error):
    """The host did not accept a metric, a tag, a logged parameter or a progress report."""

    status_code = 400


class Exhausted(Error):
    """This run has used up the policy entry's ``max-uses``, or holds too much secret text."""

    status_code = 429


class Expired(Error):
    """The policy entry's ``expires`` has passed."""

    status_code = 403


class Conflict(Error):
    """The vault holds the name in a state that cannot be written, such as deleted."""

    status_code = 409


class Partial(Error):
    """A batch failed partway on a vault without transactions.

    ``names`` are the names that were written. The state of the others is not known.
    """


class Unavailable(Error):
    """The vault or the audit log is unavailable. Retrying later may succeed."""

    status_code = 503


class OutsideComponent(Error):
    """This process is not a component, and ``strongroom.local`` is not enabled."""


class NotAvailable(Error):
    """A replaced SDK has this, and the sandbox cannot offer it. The text says what to do."""

    status_code = 501


_VERBS = {
    "get": "read",
    "set": "store",
    "list": "list",
    "describe": "describe",
    "delete": "delete",
}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _policy_lines(operation: str, names: Sequence[str]) -> str:
    if operation == "list":
        return (
            "an entry under [secrets] in the policy that allows `list` would allow it, such as\n"
            '  "db-*" = ["list"]'
        )
    which = "this line" if len(names) == 1 else "these lines"
    lines = "".join(f'\n  {name} = ["{operation}"]' for name in names)
    return (
        f"{which} under [secrets] in the policy would allow it; add the operation if the policy "
        f"has an entry for the name:{lines}"
    )


def secret_error(kind: str, detail: str, operation: str, names: Sequence[str]) -> Error:
    """Returns the exception for an error of the contract's interface ``secrets``.

    ``kind`` is the name of the error there, such as ``not-found``. ``detail`` is its text: the
    secret concerned, or a sentence. ``names`` are the names of the request.
    """
    if operation == "list":
        request, concerned = "could not list the secrets", []
    else:
        # A batch fails because of one name, which the host names.
        single = [name for name in names if name.lower() == detail.lower()]
        concerned = [detail] if single else list(names)
        request = f"could not {_VERBS[operation]} {_quoted(concerned) or 'no secrets'}"

    def make(cls: type[Error], cause: str, help_text: str) -> Error:
        text = f"{request}: {cause}\nhelp: {help_text}"
        return cls(text, operation=operation, names=concerned)

    match kind:
        case "denied":
            return make(Denied, "the policy does not grant it", _policy_lines(operation, concerned))
        case "not-found":
            return make(
                NotFound,
                "the policy grants it, but the vault has no usable secret of this name",
                f"store it with `strongroom secret set {concerned[0] if concerned else 'NAME'}`, "
                "or check that it is enabled and not expired",
            )
        case "invalid-name":
            return make(
                InvalidName,
                "the name is not valid",
                "use 1 to 127 characters of 0-9, a-z, A-Z and -; write `-` instead of `_` or `.`",
            )
        case "invalid-value":
            return make(
                InvalidValue,
                "the value is longer than 25 KiB (25,600 bytes)",
                "encrypt the data, write it to a file, and store only its key as a secret",
            )
        case "exhausted":
            return make(
                Exhausted,
                "this run has used up what the policy allows",
                "keep the value instead of reading it again, or raise `max-uses` in the policy",
            )
        case "expired":
            return make(
                Expired,
                "the policy's entry has expired",
                "change `expires` in the policy",
            )
        case "invalid-batch":
            return make(
                InvalidBatch,
                f"the batch is not valid ({detail})",
                "name each secret once, at most 256 in one batch",
            )
        case "conflict":
            return make(
                Conflict,
                "the vault cannot write this name now; it may be deleted and recoverable",
                "ask the vault's operator to recover or purge it, or use another name",
            )
        case _:
            return make(Unavailable, detail or "the vault is unavailable", "try again later")


def partial_error(operation: str, written: Sequence[str]) -> Partial:
    """Returns the exception for a batch of which only ``written`` are known to be written."""
    text = (
        f"could not {_VERBS[operation]} all secrets of a batch: the vault stopped partway; "
        f"written: {_quoted(written) or 'none'}; the state of the others is not known\n"
        "help: send the batch again, or check the others one by one"
    )
    return Partial(text, operation=operation, names=written)
