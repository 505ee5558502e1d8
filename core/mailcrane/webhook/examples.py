"""Payloads as applications get them, made up: for test calls, and for those who write a receiver."""

from __future__ import annotations

from typing import Any

_AT = "2026-01-01T12:00:00Z"

EXAMPLES: dict[str, dict[str, Any]] = {
    "outgoing-delivered": {
        "Version": 0,
        "Event": "delivered",
        "DSN": False,
        "Suppressing": False,
        "QueueMsgID": 101,
        "FromID": "MDEyMzQ1Njc4OWFiY2RlZg",
        "MessageID": "<QnxzgulZK51utga6agH_rg@mail.example>",
        "Subject": "Your order has been sent",
        "WebhookQueued": _AT,
        "SMTPCode": 0,
        "SMTPEnhancedCode": "",
        "Error": "",
        "Extra": {"order": "1701"},
    },
    "outgoing-dsn-failed": {
        "Version": 0,
        "Event": "failed",
        "DSN": True,
        "Suppressing": True,
        "QueueMsgID": 102,
        "FromID": "MDEyMzQ1Njc4OWFiY2RlZg",
        "MessageID": "<QnxzgulZK51utga6agH_rg@mail.example>",
        "Subject": "Your order has been sent",
        "WebhookQueued": _AT,
        "SMTPCode": 550,
        "SMTPEnhancedCode": "5.1.1",
        "Error": "",
        "Extra": {"order": "1701"},
    },
    "incoming-basic": {
        "Version": 0,
        "From": [{"Name": "Ann", "Address": "ann@remote.example"}],
        "To": [{"Name": "Support", "Address": "support@mail.example"}],
        "CC": [],
        "BCC": [],
        "ReplyTo": [],
        "Subject": "A question",
        "MessageID": "<V6f8Un0b1XnUBjTa9hyTvg@remote.example>",
        "InReplyTo": "<QnxzgulZK51utga6agH_rg@mail.example>",
        "References": ["<QnxzgulZK51utga6agH_rg@mail.example>"],
        "Date": "2026-01-01T12:59:58+01:00",
        "Text": "When does it arrive?\n",
        "HTML": "",
        "Structure": {
            "ContentType": "text/plain",
            "ContentTypeParams": {"charset": "utf-8"},
            "ContentID": "",
            "ContentDisposition": "",
            "Filename": "",
            "DecodedSize": 21,
            "Parts": [],
        },
        "Meta": {
            "MsgID": 201,
            "MailFrom": "ann@remote.example",
            "MailFromValidated": True,
            "MsgFromValidated": True,
            "RcptTo": "support@mail.example",
            "DKIMVerifiedDomains": ["remote.example"],
            "RemoteIP": "192.0.2.1",
            "Received": _AT,
            "MailboxName": "Inbox",
            "Automated": False,
        },
    },
}
"""By the names that they are asked for with; the fields stand in the order of the wire."""
