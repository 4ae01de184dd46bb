"""What customers are told of a refusal. The provider's own words are for operators."""

from typing import Final

from services.fulfiller.providers.port import Outcome, OutcomeClass

HELD: Final = "No provider serves this network yet; the order is kept."
DOUBT: Final = "The provider has not said yet whether the bundle was delivered; we are asking."
REVIEW: Final = "It could not be found out whether the bundle was delivered; a person is looking into it."
RESOLVED_NOT_DELIVERED: Final = "The bundle was not delivered."
CANCELLED: Final = "The order was cancelled."

_BY_CODE: Final = {
    "INVALID_MSISDN": "The phone number is not valid on this network.",
    "NO_SUCH_SUBSCRIBER": "Nobody uses this phone number on this network.",
    "NOT_ELIGIBLE": "This phone number cannot receive this bundle.",
    "UNKNOWN_BUNDLE": "This bundle is not on offer.",
    "BARRED": "This phone number is barred.",
}
_BY_CLASS: Final = {
    OutcomeClass.DECLINED_PERMANENT: "The network refused the bundle for this phone number.",
    OutcomeClass.DECLINED_TRANSIENT: "The network could not deliver the bundle just now.",
    OutcomeClass.NOT_SENT: "The provider could not be reached.",
    OutcomeClass.TURNED_AWAY: "The provider is busy.",
    OutcomeClass.SUSPENDED: "The provider cannot take orders just now.",
    OutcomeClass.NOT_FOUND: "The provider never received the order.",
}


def customer_message(outcome: Outcome) -> str:
    if outcome.code in _BY_CODE:
        return _BY_CODE[outcome.code]
    return _BY_CLASS.get(outcome.kind, DOUBT)
