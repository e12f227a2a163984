"""What is refused is recorded, and not more of it than a person reads."""

from hypothesis import given
from hypothesis import strategies as st

from btmd.api.budgets import MOST_USERS, Budgets
from btmd.api.refusals import BURST, EVERY_S
from tests.fixtures.daemon import Client
from tests.fixtures.peers import Peers


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 30)), max_size=200))
def test_none_is_forgotten_and_few_are_recorded(asked: list[tuple[int, float]]) -> None:
    now_s = 0.0
    budget = Budgets(BURST, 1 / EVERY_S, lambda: now_s)
    recorded: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for uid, later_s in asked:
        now_s += later_s
        more = budget.take(uid)
        if more is not None:
            recorded[uid].append(more)
    for uid, told in recorded.items():
        tried = sum(1 for one, _ in asked if one == uid)
        assert len(told) <= BURST + now_s / EVERY_S
        assert len(told) >= min(tried, BURST)
        assert len(told) + sum(told) <= tried


def test_many_users_take_no_memory_without_end() -> None:
    budget = Budgets(BURST, 1 / EVERY_S, lambda: 0.0)
    for uid in range(3 * MOST_USERS):
        assert budget.take(uid) == 0
    assert len(budget._left) == MOST_USERS


def test_a_flood_of_refusals_leaves_a_few_lines(client: Client, peers: Peers) -> None:
    before = client.events()[-1]["seq"]
    with peers.as_(Peers.STRANGER):
        for _ in range(3 * BURST):
            client.get("/settings").refused(403, "not_permitted")
    assert BURST <= len(client.events(before, type="OperationRefused")) <= BURST + 2
