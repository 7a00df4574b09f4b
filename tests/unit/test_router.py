"""Which agent may do a task, which slot it gets, and the reason that a person reads."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.agents import AGENTS, adapter_for
from orchestrator.config import AgentConfig
from orchestrator.performance import Standing
from orchestrator.router import AgentView, CapabilityRouter, is_wanted, refusal, unroutable, why_waiting
from orchestrator.states import Priority, State
from orchestrator.task import Task
from orchestrator.waiting import Attempt, Entry

pytestmark = pytest.mark.fast


def agent(name: str, count: int = 1, busy: int = 0, paused: str = "", first: int = 1, **settings: Any) -> AgentView:
    command = "" if name == "shell" else settings.pop("command", name)
    made = AgentConfig(command=command, max_instances=count, **settings)
    slots = tuple(f"agent_{n:02d}" for n in range(first, first + count))
    return AgentView(name, made, adapter_for(name, made), slots, frozenset(slots[:busy]), paused)


def task(**fields: Any) -> Task:
    return Task(id="task_001", description="x", **fields)


def choose(one: Task, agents: list[AgentView], avoid: str = "", spent: tuple[str, ...] = ()) -> tuple[str, str] | None:
    return CapabilityRouter(agents).choose(one, avoid, spent=spent)


def why(agents: list[AgentView], unmet: tuple[str, ...] = (), states: dict[str, State] | None = None,
        rejected: dict[str, str] | None = None, attempt: Attempt = Attempt(), **fields: Any) -> str:  # noqa: B008  # fmt: skip
    entry = Entry(task(**fields), "task_001.yaml", 0.0, 1, Priority.NORMAL, attempt)
    entry.unmet = unmet
    return why_waiting(
        entry,
        agents,
        100.0,
        (states or {}).get,
        lambda moment: f"{moment:g} o'clock",
        lambda one: (rejected or {}).get(one, ""),
    )


# -- choose -------------------------------------------------------------------------------------


def test_the_least_loaded_agent_is_chosen() -> None:
    agents = [agent("a", 4, 3), agent("b", 2, 1, first=5), agent("c", 3, 0, first=7)]
    assert choose(task(), agents) == ("c", "agent_07")


def test_load_is_a_share_and_not_a_number() -> None:
    assert choose(task(), [agent("a", 2, 1), agent("b", 10, 2, first=3)]) == ("b", "agent_05")


def test_ties_are_broken_by_the_order_of_the_config() -> None:
    assert choose(task(), [agent("b"), agent("a", first=2)]) == ("b", "agent_01")


def test_the_slot_of_the_last_attempt_is_used_only_if_there_is_no_other() -> None:
    one, two = agent("a"), agent("b", 2, 1, first=2)
    assert choose(task(), [one, two], avoid="agent_01") == ("b", "agent_03")
    assert choose(task(), [agent("a", 2)], avoid="agent_01") == ("a", "agent_02")
    assert choose(task(), [one], avoid="agent_01") == ("a", "agent_01")


def test_an_agent_that_is_spent_on_a_task_gets_it_only_if_there_is_no_other() -> None:
    one, two = agent("a", 3), agent("b", 4, 3, first=4)
    assert choose(task(), [one, two], avoid="agent_07", spent=("a",)) == ("b", "agent_07")
    assert choose(task(), [one], spent=("a",)) == ("a", "agent_01")


def test_a_task_goes_to_the_agent_that_it_names_or_to_one_of_that_kind() -> None:
    agents = [agent("codex"), agent("opus", first=2, adapter="claude")]
    assert choose(task(preferred_agent="opus"), agents) == ("opus", "agent_02")
    assert choose(task(preferred_agent="claude"), agents) == ("opus", "agent_02")
    assert choose(task(preferred_agent="gemini"), agents) is None
    assert is_wanted(agents[0], None)


def test_an_agent_needs_every_capability_that_a_task_requires() -> None:
    agents = [agent("a", capabilities=("python",)), agent("b", first=2, capabilities=("sql", "python"))]
    assert choose(task(requirements=("python", "sql")), agents) == ("b", "agent_02")
    assert refusal(agents[0], task(requirements=("python", "sql"))) == "lacks sql"


def test_a_script_goes_to_a_shell_agent_and_nothing_else_does() -> None:
    agents = [agent("claude"), agent("shell", first=2)]
    assert choose(task(run="true"), agents) == ("shell", "agent_02")
    assert choose(task(), agents) == ("claude", "agent_01")


@pytest.mark.parametrize("agents", [[], [agent("a", 1, 1)], [agent("a", paused="paused until 5")]])
def test_without_a_free_slot_nothing_is_chosen(agents: list[AgentView]) -> None:
    assert choose(task(), agents) is None


def test_an_agent_whose_limit_was_lowered_while_it_ran_starts_nothing_more() -> None:
    view = agent("a", 1)._replace(busy=frozenset({"agent_07"}))  # a slot that it does not have any more
    assert view.free == []


# -- reasons ------------------------------------------------------------------------------------


def test_a_held_task_names_what_it_waits_for_and_how_that_is() -> None:
    states = {"a": State.FAILED, "b": State.ASSIGNED, "c": State.PENDING, "d": State.REVIEW}
    assert why([], ("b", "a", "d", "c"), states) == "waits for a (failed), b (running), c (waiting), d (in review)"
    assert why([], ("e", "f"), {}, {"f": "rejected: is empty"}) == "waits for e (no such task), f (rejected: is empty)"


def test_a_task_in_back_off_says_when_and_why() -> None:
    attempt = Attempt(not_before=160.0, last_reason="attempt 1 of 4: timeout")
    assert why([agent("a")], attempt=attempt) == "tries again at 160 o'clock (attempt 1 of 4: timeout)"


def test_a_task_that_could_start_says_so() -> None:
    assert why([agent("a")]) == "starts next"


def test_a_task_without_a_slot_says_whose_and_how_many_are_busy() -> None:
    agents = [
        agent("claude", 2, 2),
        agent("codex", first=3, paused="paused until 14:05 (rate limit)"),
        agent("shell", first=4),
    ]
    assert why(agents) == "no free slot of claude (2 of 2 busy); codex paused until 14:05 (rate limit)"


@pytest.mark.parametrize(
    ("agents", "fields", "words"),
    [
        (
            [agent("a", capabilities=("web", "python"))],
            {"requirements": ("sql",)},
            "needs capability sql; agents have python, web",
        ),
        ([agent("a")], {"requirements": ("sql", "c")}, "needs capabilities sql, c; agents have none"),
        (
            [agent("a", capabilities=("x",)), agent("b", capabilities=("y",))],
            {"requirements": ("x", "y")},
            "needs capabilities x, y in one agent; agents have x, y",
        ),
        ([agent("a")], {"preferred_agent": "claude"}, "wants claude, which is not set up here (agents: a)"),
        ([], {}, "agents: none"),
        ([agent("shell")], {}, "has no 'run:' script"),
        ([agent("claude")], {"run": "true"}, "has a 'run:' script, and no shell agent is set up (agents: claude)"),
        (
            [agent("shell"), agent("claude")],
            {"run": "true", "preferred_agent": "claude"},
            "has a 'run:' script, and claude never runs one; take 'preferred_agent: claude' out",
        ),
        (
            [agent("shell"), agent("claude")],
            {"preferred_agent": "shell"},
            "has no 'run:' script, and shell does nothing else; give it one, or take 'preferred_agent: shell' out",
        ),
        (
            [agent("shell"), agent("claude", capabilities=("sql",))],
            {"run": "true", "requirements": ("sql",)},
            "no agent can do it: shell lacks sql",
        ),
    ],
)
def test_a_task_that_no_agent_can_ever_do_says_what_is_missing(
    agents: list[AgentView], fields: dict[str, Any], words: str
) -> None:
    reason = why(agents, **fields)
    assert words in reason or (not agents and "none" in reason)
    assert choose(task(**fields), agents) is None


def test_what_can_be_done_is_not_called_unroutable() -> None:
    assert unroutable(task(), [agent("a", 1, 1), agent("shell", first=2)]) == ""


# -- score --------------------------------------------------------------------------------------


def with_record(view: AgentView, runs: int, well: int, **learned: float) -> AgentView:
    return view._replace(standing=Standing(runs, well, 1.0, learned))


def test_the_better_agent_gets_the_task() -> None:
    agents = [with_record(agent("a", 4), 20, 16), with_record(agent("b", 4, first=5), 20, 19)]
    assert choose(task(), agents) == ("b", "agent_05")


def test_an_agent_that_is_good_and_loaded_loses_to_one_that_is_less_good_and_free() -> None:
    loaded, free = with_record(agent("a", 4, 3), 20, 19), with_record(agent("b", 4, 1, first=5), 20, 16)
    assert (loaded.score, free.score) == (0.2375, 0.6)
    assert choose(task(), [loaded, free]) == ("b", "agent_06")


def test_a_newcomer_has_a_fair_first_chance_and_loses_it_by_failing() -> None:
    proven = with_record(agent("a"), 20, 19)
    assert choose(task(), [proven, agent("b", first=2)]) == ("b", "agent_02")
    assert choose(task(), [proven, with_record(agent("b", first=2), 1, 0)]) == ("a", "agent_01")
    assert choose(task(), [proven, with_record(agent("b", first=2), 2, 2)]) == ("b", "agent_02")


def test_an_agent_that_always_fails_is_still_better_than_none() -> None:
    assert choose(task(), [with_record(agent("a"), 50, 0)]) == ("a", "agent_01")


def test_equal_scores_go_to_the_least_loaded() -> None:
    agents = [with_record(agent("a", 2, 1), 10, 10), with_record(agent("b", 4, first=3), 10, 5)]
    assert agents[0].score == agents[1].score == 0.5
    assert choose(task(), agents) == ("b", "agent_03")


def test_what_was_learned_counts_like_what_was_configured() -> None:
    agents = [agent("a", capabilities=("web",)), with_record(agent("b", first=2), 9, 9, sql=0.8)]
    assert choose(task(requirements=("sql",)), agents) == ("b", "agent_02")
    assert "agents have sql, web" in unroutable(task(requirements=("go",)), agents)


def test_a_record_that_changes_what_can_be_done_is_taken_up() -> None:
    router = CapabilityRouter([agent("a")])
    assert router.choose(task(requirements=("sql",))) is None
    router.see([with_record(agent("a"), 9, 9, sql=0.8)])
    assert router.choose(task(requirements=("sql",))) == ("a", "agent_01")


# -- nobody starves -----------------------------------------------------------------------------

SQL = {"capabilities": ("sql",)}


def left(agents: list[AgentView], rank: int, *waiting: Task) -> CapabilityRouter:
    router = CapabilityRouter(agents)
    router.leave((rank, one) for one in waiting)
    return router


def test_the_last_slot_of_a_generalist_is_left_to_what_only_it_can_do() -> None:
    agents = [agent("all", **SQL), agent("other", 1, 1, first=2)]
    assert left(agents, 1).choose(task(), rank=1) == ("all", "agent_01")
    router = left(agents, 1, task(requirements=("sql",)))
    assert router.choose(task(), rank=1) is None, "the other will be free some time"
    assert router.choose(task(requirements=("sql",)), rank=1) == ("all", "agent_01")
    assert router.choose(task(), rank=0) == ("all", "agent_01"), "it is more urgent"


def test_only_the_last_slot_is_left() -> None:
    agents = [agent("all", 2, **SQL), agent("other", 1, 1, first=3)]
    assert left(agents, 1, task(requirements=("sql",))).choose(task(), rank=1) == ("all", "agent_01")


def test_nothing_is_left_if_nobody_else_could_do_the_other_task_soon() -> None:
    agents = [agent("all", **SQL), agent("other", 1, paused="paused until 14:05", first=2)]
    assert left(agents, 1, task(requirements=("sql",))).choose(task(), rank=1) == ("all", "agent_01")


def test_also_an_urgent_task_goes_elsewhere_if_it_can() -> None:
    agents = [agent("all", **SQL), with_record(agent("other", first=2), 10, 2)]
    assert left(agents, 2, task(requirements=("sql",))).choose(task(), rank=0) == ("other", "agent_02")


# -- said ---------------------------------------------------------------------------------------


def test_every_agent_is_weighed_and_the_reason_said() -> None:
    agents = [
        with_record(agent("a", 2, 1), 20, 19),
        agent("b", 1, 1, first=3),
        agent("c", first=4, paused="paused until 14:05 (rate limit)"),
        agent("d", first=5, adapter="shell", command=""),
        with_record(agent("e", 4, first=6), 10, 6),
    ]
    rows = CapabilityRouter(agents).weigh(task())
    assert [(row.agent, row.may, row.chosen) for row in rows] == [
        ("e", True, True), ("a", True, False), ("c", False, False), ("b", False, False), ("d", False, False)
    ]  # fmt: skip
    assert rows[0][3:8] == (0.6, 0.6, 10, 0, 4)
    assert rows[1][3:8] == (0.475, 0.95, 20, 1, 2)
    why = {row.agent: row.why for row in rows}
    assert why["b"] == "no free slot (1 of 1 busy)"
    assert why["c"] == "paused until 14:05 (rate limit)"
    assert "runs nothing else" in why["d"]


def test_a_worker_may_be_what_a_task_is_for_and_is_given_nothing() -> None:
    settings = AgentConfig(max_instances=2, capabilities=("sql",))
    worker = AgentView(
        "w", settings, AGENTS["command"], (), frozenset(), "fetches its work itself", worker_type="human"
    )
    agents = [agent("a"), worker]
    assert choose(task(requirements=("sql",)), agents) is None
    assert why(agents, requirements=("sql",)) == "for worker w, who has 0 of 2 and fetches its work itself"
    assert why(agents, preferred_agent="human") == "for worker w, who has 0 of 2 and fetches its work itself"


# -- balance ------------------------------------------------------------------------------------


def test_an_even_load_needs_no_advice() -> None:
    assert CapabilityRouter([agent("a", 4, 2), agent("b", 4, 1, first=5)]).should_rebalance() == ""
    assert CapabilityRouter([agent("a", 4, 4)]).should_rebalance() == ""
    assert CapabilityRouter([agent("a", 4, 4), agent("b", paused="is down", first=5)]).should_rebalance() == ""


def test_a_skewed_load_is_named_with_what_to_do() -> None:
    router = CapabilityRouter([agent("a", 4, 4, **SQL), agent("b", 4, first=5)])
    said = router.should_rebalance([task(requirements=("sql",)), task(preferred_agent="a"), task()])
    assert said.startswith("a has 4 of 4 busy; b has 0 of 4 busy: 2 waiting tasks are for a and not for b; give b")
    assert "capabilities sql" in said
    assert "can be done by b, too" in router.should_rebalance([task()])
    assert "nothing waits" in router.should_rebalance()
