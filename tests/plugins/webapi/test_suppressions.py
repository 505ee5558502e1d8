"""The methods of the suppression list."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from mailcrane.model.address import Mailbox
from mailcrane.testing.clock import START

from .conftest import API


async def test_an_empty_list_is_an_empty_array(api: API) -> None:
    answer = await api.call("{}", "SuppressionList")
    assert (answer.status, answer.body) == (200, b'{"Suppressions":[]}\n')


async def test_an_address_that_was_added_is_on_the_list_as_it_was_given(api: API) -> None:
    request = {"EmailAddress": "You.There+tag@Example.com", "Manual": True, "Reason": "asked us to"}
    answer = await api.call(json.dumps(request), "SuppressionAdd")
    assert (answer.status, answer.body) == (200, b"{}\n")
    listed = (await api.call("{}", "SuppressionList")).json["Suppressions"]
    created = listed[0].pop("Created")
    assert datetime.fromisoformat(created) == START
    assert listed == [
        {
            "ID": 1,
            "Account": "me",
            "BaseAddress": "youthere@example.com",
            "OriginalAddress": "You.There+tag@example.com",
            "Manual": True,
            "Reason": "asked us to",
        }
    ]
    assert list((await api.call("{}", "SuppressionList")).json["Suppressions"][0]) == [
        "ID", "Created", "Account", "BaseAddress", "OriginalAddress", "Manual", "Reason"
    ]  # fmt: skip


async def test_only_the_own_list_is_seen(api: API) -> None:
    await api.suppressions.add("other", Mailbox("you", "example.com"), is_manual=False, reason="")
    assert (await api.call("{}", "SuppressionList")).json == {"Suppressions": []}
    assert (await api.call('{"EmailAddress": "you@example.com"}', "SuppressionPresent")).json == {"Present": False}
    assert (await api.call('{"EmailAddress": "you@example.com"}', "SuppressionRemove")).code == "error"


async def test_an_address_with_the_same_base_is_there_already(api: API) -> None:
    assert (await api.call('{"EmailAddress": "you@example.com"}', "SuppressionAdd")).status == 200
    assert (await api.call('{"EmailAddress": "y.ou+x@example.com"}', "SuppressionAdd")).code == "error"
    assert (await api.call('{"EmailAddress": "YOU-x@example.com"}', "SuppressionPresent")).json == {"Present": True}


async def test_an_address_is_removed_by_its_base_and_only_once(api: API) -> None:
    await api.call('{"EmailAddress": "you@example.com"}', "SuppressionAdd")
    answer = await api.call('{"EmailAddress": "you+x@example.com"}', "SuppressionRemove")
    assert (answer.status, answer.body) == (200, b"{}\n")
    assert (await api.call('{"EmailAddress": "you@example.com"}', "SuppressionPresent")).json == {"Present": False}
    assert (await api.call('{"EmailAddress": "you@example.com"}', "SuppressionRemove")).code == "error"


@pytest.mark.parametrize("method", ["SuppressionAdd", "SuppressionRemove", "SuppressionPresent"])
@pytest.mark.parametrize("request_", ["{}", "null", '{"EmailAddress": ""}', '{"EmailAddress": "nonsense"}'])
async def test_what_is_no_address_is_refused(api: API, method: str, request_: str) -> None:
    assert (await api.call(request_, method)).code == "badAddress"


@pytest.mark.parametrize("method", ["SuppressionList", "SuppressionAdd", "SuppressionRemove", "SuppressionPresent"])
async def test_each_method_refuses_fields_that_it_does_not_know(api: API, method: str) -> None:
    assert (await api.call('{"Other": "x"}', method)).code == "protocol"
    assert (await api.call("{}", method, headers=())).status == 401


async def test_names_and_null_are_read_as_in_send(api: API) -> None:
    request = '{"emailaddress": "you@example.com", "MANUAL": null, "Reason": null} trailing'
    assert (await api.call(request, "SuppressionAdd")).status == 200
    assert (api.suppressions.rows[0].is_manual, api.suppressions.rows[0].reason) == (False, "")


async def test_each_method_has_a_page(api: API) -> None:
    index = await api.ask("GET", "/webapi/v0/", headers=())
    for method, field in {
        "SuppressionList": "{}",
        "SuppressionAdd": "&quot;Reason&quot;: &quot;&quot;",
        "SuppressionRemove": "&quot;EmailAddress&quot;: &quot;&quot;",
        "SuppressionPresent": "&quot;EmailAddress&quot;: &quot;&quot;",
    }.items():
        assert f'<a href="{method}">{method}</a>' in index.text
        page = await api.ask("GET", f"/webapi/v0/{method}", headers=())
        assert page.status == 200
        assert field in page.text
        assert "attachedfile" not in page.text
