"""What the door says no with: no token, a wrong one, one that does not reach so far."""

from common.errors import VirtumancerError


class TokenRequired(VirtumancerError):
    status = 401
    type = "token-required"
    title = "A token is required"
    advice = (
        "Send `Authorization: Bearer TOKEN`; `bin/virtumancer token create` makes one."
    )


class InvalidToken(VirtumancerError):
    """What was sent as a token, or as a ticket, opens nothing."""

    status = 401
    type = "invalid-token"
    title = "The token is not valid"
    advice = "Ask an admin for another one; a ticket is good once, for 30 s."


class RoleTooLow(VirtumancerError):
    status = 403
    type = "role-too-low"
    title = "The token's role does not allow this"
    advice = "Use a token of the role that `detail` names."


class HostOutsideToken(VirtumancerError):
    """A token that is limited to some hosts may not reach beyond them."""

    status = 403
    type = "host-outside-token"
    title = "The token does not reach so far"
    advice = "Use a token whose host patterns include it, or one without patterns."


class UnknownToken(VirtumancerError):
    status = 404
    type = "unknown-token"
    title = "Unknown token"
    advice = "Look at `GET /api/tokens`."


class TokenNameTaken(VirtumancerError):
    status = 409
    type = "token-name-taken"
    title = "Token name taken"
    advice = "Choose another name, or revoke the token that has this one."


class TooManyAttempts(VirtumancerError):
    """Too many wrong tokens came from this address."""

    status = 429
    type = "too-many-attempts"
    title = "Too many failed attempts"
    advice = "Correct the token, and wait as long as `Retry-After` says."
    retryable = True
    retry_after_s = 10
