"""What is counted of calls."""

from __future__ import annotations

from typing import Final

from mailcrane.api.metrics import Counter, Histogram

RESULTS: Final = Counter(
    "mailcrane_webapi_results_total",
    "Calls by method and result: ok, badauth, the code of an error, or internal for a fault of ours.",
    ("method", "result"),
)
DURATION: Final = Histogram(
    "mailcrane_webapi_duration_seconds",
    "How long calls took, with the time that the client needed for sending its request.",
    ("method",),
)
SUBMISSIONS: Final = Counter(
    "mailcrane_webapi_submission_total",
    "Messages that were submitted by result: ok, badfrom, domaindisabled, messagelimiterror, recipientlimiterror, "
    "storesenterror, or queueerror for all else.",
    ("result",),
)
ERRORS: Final = Counter("mailcrane_webapi_errors_total", "Faults of ours by where they came up: submit.", ("error",))

SUBMISSION_RESULTS: Final = {
    "badFrom": "badfrom",
    "domainDisabled": "domaindisabled",
    "messageLimitReached": "messagelimiterror",
    "recipientLimitReached": "recipientlimiterror",
    "sentOverQuota": "storesenterror",
}
"""Words of a submission's result by the code of the error; those that are not here are ``queueerror``."""
