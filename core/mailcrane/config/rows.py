"""What changes while the server runs: domains, accounts, addresses, keys and routes, as one validated whole.

Stored as rows; `mailcrane.config.declarative` is their TOML form and checks them, `mailcrane.config.directory`
answers look-ups over them. Domains are A-labels in lower case; addresses are as `Mailbox` prints them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mailcrane.model.event import OUTGOING_EVENT_KINDS
from mailcrane.model.webhook import WebhookMode
from mailcrane.observe.secret import NO_SECRET, Secret

DKIMAlgorithm = Literal["rsa", "ed25519"]
DKIMCanonicalization = Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]

DEFAULT_SIGNED_FIELDS = (
    "From",
    "To",
    "Cc",
    "Bcc",
    "Reply-To",
    "References",
    "In-Reply-To",
    "Subject",
    "Date",
    "Message-Id",
    "Content-Type",
)


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """A rule that chooses the transport of an attempt; the first rule that matches wins."""

    transport: Annotated[str, Meta(description="Name of a `[transports.NAME]` of mailcrane.toml.")]
    from_domains: Annotated[
        tuple[str, ...],
        Meta(
            description="Domains of the reverse-path; empty matches all. `.example.org` matches example.org and what "
            "is under it; `.` matches only the null reverse-path."
        ),
    ] = ()
    to_domains: Annotated[
        tuple[str, ...],
        Meta(description="Domains of the forward-path; empty matches all. `.example.org` as in `from_domains`."),
    ] = ()
    minimum_attempts: Annotated[
        int, Meta(ge=0, description="Matches once so many attempts were made before this one.")
    ] = 0


class RetiringSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """A signing secret that has a successor, and signs beside it until the receiver knows that."""

    secret: Annotated[Secret, Meta(description="The secret, `whsec_…`.")]
    until: Annotated[datetime, Meta(tz=True, description="When it signs no longer, such as `2026-03-01T00:00:00Z`.")]


class Webhook(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an account's events are posted to."""

    url: Annotated[str, Meta(description="An http or https URL.")]
    authorization: Annotated[
        Secret, Meta(description="Value of the Authorization header of each call; empty sends none.")
    ] = NO_SECRET
    secrets: Annotated[
        tuple[Secret, ...],
        Meta(description="Standard Webhooks signing secrets, `whsec_…`, the newest first; empty does not sign."),
    ] = ()
    events: Annotated[
        tuple[str, ...],
        Meta(
            description="Names of the events that are posted: "
            + ", ".join(f"`{kind}`" for kind in sorted(OUTGOING_EVENT_KINDS))
            + ", and `<plugin>.<name>` for one of a plugin's. Empty posts all but those of plugins."
        ),
    ] = ()
    mode: Annotated[
        WebhookMode,
        Meta(
            description="`latest`: an event takes the place of an older one of the same message that was not posted "
            "successfully yet. `all`: every event is posted, in order. `changes`: as `all`, but an event of the "
            "kind that was posted last of the same message is left out, such as one delay after another."
        ),
    ] = "latest"
    retiring_secrets: Annotated[
        tuple[RetiringSecret, ...],
        Meta(
            description="Earlier secrets that calls are signed with as well, each until its time; "
            "`mailcrane webhook secret rotate` puts them here."
        ),
    ] = ()


class Domain(Struct, frozen=True, forbid_unknown_fields=True):
    """A domain that mail is received for and sent from."""

    name: Annotated[str, Meta(description="The domain, as A-labels or Unicode.")]
    is_disabled: Annotated[
        bool, Meta(description="No mail is received for it or sent from it; senders are told to try later.")
    ] = False
    description: Annotated[str, Meta(description="For people.")] = ""
    separators: Annotated[
        tuple[str, ...],
        Meta(
            description="A local part is cut at the first of each of these: with `+`, ann+shop is ann. The first is "
            "also used for unique ids in reverse-paths. Empty cuts nothing."
        ),
    ] = ("+",)
    is_case_sensitive: Annotated[
        bool, Meta(description="Whether upper and lower case in local parts are different addresses.")
    ] = False
    routes: Annotated[
        tuple[Route, ...], Meta(description="Routes for messages with a reverse-path at this domain.")
    ] = ()


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    """An account: a login, folders, and the owner of what it submits."""

    name: Annotated[str, Meta(description="Name of the account: letters, digits and `-_.`; shown in logs.")]
    domain: Annotated[str, Meta(description="Domain that the account belongs to.")]
    full_name: Annotated[str, Meta(description="Name of the person, for composed messages.")] = ""
    description: Annotated[str, Meta(description="For people.")] = ""
    login_disabled_message: Annotated[
        str,
        Meta(
            max_length=256,
            description="When set, logins are refused with this text (printable ASCII); mail is still received.",
        ),
    ] = ""
    outgoing_webhook: Annotated[
        Webhook | None, Meta(description="Where events of messages that the account submitted are posted to.")
    ] = None
    keep_retired_messages_seconds: Annotated[
        int, Meta(ge=0, description="How long entries that left the queue are kept; 0 keeps none.")
    ] = 0
    keep_retired_webhooks_seconds: Annotated[
        int, Meta(ge=0, description="How long webhook calls that are done are kept; 0 keeps none.")
    ] = 0
    max_outgoing_messages_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="How many messages the account may submit in 24 hours; one to several recipients counts as "
            "several. 0 sets no limit.",
        ),
    ] = 1000
    max_first_time_recipients_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="To how many recipients that it never sent to the account may submit in 24 hours. 0 sets no "
            "limit, and no record of recipients is kept.",
        ),
    ] = 200
    from_id_login_addresses: Annotated[
        tuple[str, ...],
        Meta(
            description="Messages submitted with one of these logins get a unique id in each reverse-path, so that "
            "bounces are matched. Each is a full address at a domain with a separator."
        ),
    ] = ()
    routes: Annotated[tuple[Route, ...], Meta(description="Routes for what the account submits; asked first.")] = ()

    @property
    def is_login_disabled(self) -> bool:
        """Whether logins are refused."""
        return bool(self.login_disabled_message)


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    """An address that is delivered to an account."""

    address: Annotated[
        str, Meta(description="`local-part@domain`, or `@domain` for all that no other address at the domain takes.")
    ]
    account: Annotated[str, Meta(description="Name of the account.")]
    folder: Annotated[str, Meta(description="Folder that messages are placed in.")] = "Inbox"
    full_name: Annotated[str, Meta(description="Name of the person at this address; empty is the account's.")] = ""


class DKIMKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A DKIM key of a domain (RFC 6376), published under ``<selector>._domainkey.<domain>``."""

    domain: Annotated[str, Meta(description="The signing domain.")]
    selector: Annotated[str, Meta(description="The selector.")]
    algorithm: Annotated[DKIMAlgorithm, Meta(description="The kind of the key.")]
    private_key_pem: Annotated[Secret, Meta(description="The private key, PKCS #8 in PEM.")]
    is_signing: Annotated[bool, Meta(description="Whether messages are signed with it; otherwise it is spare.")] = True
    header_fields: Annotated[
        tuple[str, ...], Meta(description="Header fields that are signed where present. From must be among them.")
    ] = DEFAULT_SIGNED_FIELDS
    is_sealed: Annotated[
        bool, Meta(description="Whether the absence of more fields of the same names is signed too (oversigning).")
    ] = True
    expiration_seconds: Annotated[
        int, Meta(ge=0, description="How long a signature is valid (`x=`); 0 sets no end.")
    ] = 259200
    canonicalization: Annotated[DKIMCanonicalization, Meta(description="Canonicalization of header and body.")] = (
        "relaxed/relaxed"
    )


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for the whole server."""

    postmaster_account: Annotated[
        str, Meta(description="Account that gets mail to postmaster where no address takes it; empty refuses it.")
    ] = ""
    postmaster_folder: Annotated[str, Meta(description="Folder of that account.")] = "Inbox"
    routes: Annotated[tuple[Route, ...], Meta(description="Routes that are asked last.")] = ()


class Configuration(Struct, frozen=True, forbid_unknown_fields=True):
    """All of it, as it stood at one version.

    Attributes:
        version: Rises by one with each change; 0 is an empty configuration that was never changed.
    """

    version: int = 0
    settings: Settings = Settings()
    domains: tuple[Domain, ...] = ()
    accounts: tuple[Account, ...] = ()
    addresses: tuple[Address, ...] = ()
    dkim_keys: tuple[DKIMKey, ...] = ()
