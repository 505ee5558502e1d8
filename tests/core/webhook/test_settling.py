"""Results that come together are committed together."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.model.clock import SystemClock
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.settling import Settler


async def test_units_that_wait_are_one_unit_and_each_gets_its_answer() -> None:
    async with await open_sqlite(":memory:", SystemClock(), inline=True) as store, trio.open_nursery() as nursery:
        settler, instants, answers = Settler(store, key="webhooks"), set(), {}

        async def settle(number: int) -> None:
            def unit(transaction: Transaction, _: object) -> bool:
                instants.add(id(transaction.now))
                return number % 2 == 0

            answers[number] = await settler.settle(unit)

        async with trio.open_nursery() as waiting:
            for number in range(10):
                waiting.start_soon(settle, number)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(settler.run)
        assert answers == {number: number % 2 == 0 for number in range(10)}
        assert len(instants) == 1
        nursery.cancel_scope.cancel()


async def test_a_removed_account_costs_its_own_unit_only() -> None:
    async with await open_sqlite(":memory:", SystemClock(), inline=True) as store, trio.open_nursery() as nursery:
        settler = Settler(store, key="webhooks")
        answers: list[object] = []

        def removed(_: Transaction, ended: object) -> bool:
            raise UnknownAccount("ann")

        async def settle_removed() -> None:
            with pytest.raises(UnknownAccount):
                await settler.settle(removed)
            answers.append("removed")

        async def settle() -> None:
            answers.append(await settler.settle(lambda _, ended: True))

        async with trio.open_nursery() as waiting:
            for task in (settle, settle_removed, settle):
                waiting.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(settler.run)
        assert sorted(answers, key=str) == [True, True, "removed"]
        nursery.cancel_scope.cancel()
