"""``kill -9`` at every commit on a message's way: what was answered is there, once, and nothing has to be repaired."""

from __future__ import annotations

import ast
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from campaign import LOADS, Campaign, campaigning, mixed_load, until
from kill_points import OFF_THE_WAY, POINTS, WRITES_OFF_THE_WAY, Point, point
from promises import problems
from state import is_at_rest

pytestmark = pytest.mark.slow

_KILLED = -signal.SIGKILL
_ROOT = Path(__file__).parents[2]


async def kill(campaign: Campaign, at: Point, moment: str, hit: int) -> None:
    """Let the server live until it kills itself at a point, and check what it left."""
    orders = campaign.orders(
        point=at.name,
        moment=moment,
        hit=hit,
        lease_seconds=0.9 if at.load in {"slow", "stopping"} else 0.0,
        stop_seconds=0.1 if at.is_stopping else 0.0,
        retry_seconds=0.02 if at.load == "late" else 0.0,
        call_retry_seconds=0.001 if at.load == "operator" else 0.0,
    )
    code = await campaign.die(orders, LOADS[at.load], is_stopping=at.is_stopping)
    assert code == _KILLED, f"{at.name}: exit code {code}\n{campaign.log()}"
    await campaign.check(is_at_rest=False)


@pytest.mark.parametrize("at", POINTS, ids=lambda at: at.name)
async def test_nothing_that_was_answered_is_lost_by_a_kill(tmp_path: Path, at: Point) -> None:
    async with campaigning(tmp_path, seed=at.name) as campaign:
        for number, hit in enumerate(at.hits):
            for moment in ("before", "after"):
                if at.needs:
                    before = point(at.needs)
                    await kill(campaign, before, "after", before.hits[number])
                await kill(campaign, at, moment, hit)
        assert await campaign.recover(is_operated=at.load == "operator") == 0, campaign.log()
        state = await campaign.check(is_at_rest=True)
        assert state.retired
        assert state.copies


async def test_every_unit_of_a_running_server_is_a_kill_point_or_off_the_way(tmp_path: Path) -> None:
    async with campaigning(tmp_path, seed="record") as campaign:
        record = tmp_path / "record"
        with trio.fail_after(30):
            async with campaign.living(campaign.orders(record=str(record))) as process:
                assert await campaign.accepting(process)
                async with trio.open_nursery() as nursery:
                    mixed_load(campaign, nursery)
                await until(lambda: is_at_rest(campaign.data_dir, "witness"))
        seen = set(record.read_text().split())
        assert not seen - {at.unit for at in POINTS} - set(OFF_THE_WAY)
        # What is written only in trouble, or not in so short a life, is not seen here; the kills show it.
        assert len(seen) > 12


async def test_a_server_that_answers_before_its_commit_is_found_out(tmp_path: Path) -> None:
    async with campaigning(tmp_path, seed="hasty") as campaign:
        orders = campaign.orders(point="message into a folder", moment="before", hit=11, is_hasty=True)
        assert await campaign.die(orders, mixed_load) == _KILLED
        state = await campaign.state()
        found = problems(state, campaign.ledger, campaign.sink, campaign.receiver, campaign.told(), is_at_rest=False)
        assert any("was answered and is lost" in problem for problem in found)


def test_every_call_that_writes_is_a_kill_point_or_off_the_way() -> None:
    written = {
        f"{module}:{function}"
        for folder in ("core/mailcrane", "plugins")
        for path in sorted((_ROOT / folder).rglob("*.py"))
        if "testing" not in path.parts
        for module in [".".join(path.relative_to(_ROOT / folder.partition("/")[0]).with_suffix("").parts)]
        for function in functions_that_write(ast.parse(path.read_text()))
    }
    assert written == {at.written_in for at in POINTS} | set(WRITES_OFF_THE_WAY)


def functions_that_write(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Yield the name of every function that hands a unit to a store: that calls a ``write…`` with a ``key``."""
    for node in ast.iter_child_nodes(tree):
        name = inside
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{inside}.{node.name}" if inside else node.name
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            has_key = any(keyword.arg == "key" for keyword in node.keywords)
            if "write" in called and has_key:
                yield inside
        yield from functions_that_write(node, name)
