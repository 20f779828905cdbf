"""Random histories of a jar: submit, claim, complete, steer, crash, recover, fold, hands; the promise is checked after each step.

The environment variables MODEL_EXAMPLES and MODEL_STEPS make it longer, with other histories each time (`make faults`). A
failure prints its steps, as short as they could be made, and a line that runs them again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.model.arrays import ArrayWorld
from tests.model.faults import Fault
from tests.model.world import CATEGORIES, NODES, VERBS, World

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "9"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
SHM = Path("/dev/shm")

NODE = st.sampled_from(NODES)
CATEGORY = st.sampled_from(CATEGORIES)
NUMBER = st.integers(0, 7)
KILL = st.none() | st.builds(Fault, st.sampled_from(("killed", "torn")), st.integers(0, 9))
KILL_LATER = st.none() | st.builds(Fault, st.sampled_from(("killed", "torn")), st.integers(0, 60))
ATTRIBUTES = st.sampled_from(
    (
        *({}, {}, {"retries": "2"}, {"retries": "1", "retry_delay": "1h"}),
        *({"begin": "+1h", "tag": "x"}, {"hold": "yes", "env": "A=1"}),
    )
)
OUTCOME = st.sampled_from(("succeeded", "succeeded", "failed", "failed", "interrupted", "killed"))
PLACE = st.sampled_from(("limbo", "unclaimed", "unclaimed/LINUX", "completed"))
VERB = st.sampled_from(sorted(VERBS))
OTHERS = ("fold", "reconcile", "recover", "take back", "claim", "move", "delete")


class Machine(RuleBasedStateMachine):
    """On a disk whose renames can refuse to overwrite."""

    can_refuse = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="jobjar-model-", dir=SHM if os.access(SHM, os.W_OK) else None))
        self.world = World(self.directory, self.can_refuse)
        self.is_sound = True

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self.world.settle()
        finally:
            self.world.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def others(self, what: str, node: str, number: int, away_from: str) -> Callable[[], None]:
        """What somebody at another home does in the middle of an action."""
        world = self.world

        def act() -> None:
            elsewhere = node if node != away_from else NODES[NODES.index(node) - 1]
            body = world.pick(number)
            if what == "fold":
                world.fold(elsewhere, number, None)
            elif what == "reconcile":
                world.reconcile(elsewhere, True)
            elif what == "recover":
                world.recover(elsewhere, None)
            elif what == "take back" and body is not None:
                world.take_back(elsewhere, body)
            elif what == "claim" and body is not None and body.node != away_from:
                world.claim(body, True, None)
            elif what == "move":
                world.move_by_hand(number, "limbo", None)
            elif what == "delete":
                world.delete_by_hand(number)

        return act

    @rule(node=NODE, category=CATEGORY, priority=st.integers(-1, 1), attributes=ATTRIBUTES, fault=KILL)
    def submit(self, node: str, category: str, priority: int, attributes: dict[str, str], fault: Fault | None) -> None:
        self.world.submit(node, category, priority, attributes, fault)

    @rule(node=NODE, kind=st.sampled_from(("after", "after_any", "after_failed")), number=NUMBER, fault=KILL)
    def submit_dependent(self, node: str, kind: str, number: int, fault: Fault | None) -> None:
        self.world.submit_dependent(node, kind, number, fault)

    @rule(node=NODE, fault=KILL)
    def settle_dependents(self, node: str, fault: Fault | None) -> None:
        self.world.settle_dependents(node, fault)

    @rule(node=NODE, what=st.sampled_from(OTHERS), elsewhere=NODE, other=NUMBER, at=NUMBER)
    def settle_dependents_while_others_act(self, node: str, what: str, elsewhere: str, other: int, at: int) -> None:
        self.world.settle_dependents(node, Fault("between_pieces", at), self.others(what, elsewhere, other, node))

    @rule(name=st.sampled_from(("x", "x.5", "y~2.5")), category=CATEGORY)
    def drop(self, name: str, category: str) -> None:
        self.world.drop(name, category)

    @rule(node=NODE, pid=st.integers(1, 2), fault=KILL)
    def start_worker(self, node: str, pid: int, fault: Fault | None) -> None:
        # Process ids of several nodes are told apart here, so that one table of processes serves all.
        self.world.start_worker(node, 10 * NODES.index(node) + pid, fault)

    @rule(number=NUMBER, late=st.booleans(), fault=KILL)
    def claim(self, number: int, late: bool, fault: Fault | None) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.claim(body, late, fault)

    @rule(number=NUMBER, what=st.sampled_from(OTHERS), node=NODE, other=NUMBER, at=NUMBER)
    def claim_while_others_act(self, number: int, what: str, node: str, other: int, at: int) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.claim(body, True, Fault("between_pieces", at), self.others(what, node, other, body.node))

    @rule(number=NUMBER, outcome=OUTCOME, fault=KILL)
    def complete(self, number: int, outcome: str, fault: Fault | None) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.complete(body, outcome, fault)

    @rule(number=NUMBER, outcome=OUTCOME, what=st.sampled_from(OTHERS), node=NODE, other=NUMBER, at=NUMBER)
    def complete_while_others_act(self, number: int, outcome: str, what: str, node: str, other: int, at: int) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.complete(body, outcome, Fault("between_pieces", at), self.others(what, node, other, body.node))

    @rule(node=NODE, verb=VERB, number=NUMBER, fault=KILL)
    def steer(self, node: str, verb: str, number: int, fault: Fault | None) -> None:
        self.world.steer(node, verb, number, fault)

    @rule(node=NODE, verb=VERB, number=NUMBER, what=st.sampled_from(OTHERS), elsewhere=NODE, other=NUMBER, at=NUMBER)
    def steer_while_others_act(
        self, node: str, verb: str, number: int, what: str, elsewhere: str, other: int, at: int
    ) -> None:
        self.world.steer(node, verb, number, Fault("between_pieces", at), self.others(what, elsewhere, other, node))

    @rule(number=NUMBER)
    def kill_worker(self, number: int) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.kill(body)

    @rule(number=NUMBER)
    def look_again(self, number: int) -> None:
        """A quarter of a second passes."""
        body = self.world.pick(number)
        if body is not None:
            body.claimer.proposals.stale_at = 0

    @rule(node=NODE, fault=KILL)
    def recover(self, node: str, fault: Fault | None) -> None:
        self.world.recover(node, fault)

    @rule(node=NODE, what=st.sampled_from(OTHERS), elsewhere=NODE, other=NUMBER, at=NUMBER)
    def recover_while_others_act(self, node: str, what: str, elsewhere: str, other: int, at: int) -> None:
        self.world.recover(node, Fault("between_pieces", at), self.others(what, elsewhere, other, node))

    @rule(node=NODE, number=NUMBER, fault=KILL)
    def take_back(self, node: str, number: int, fault: Fault | None) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.take_back(node, body, fault)

    @rule(node=NODE, number=NUMBER, limit=st.none() | st.integers(1, 4))
    def fold(self, node: str, number: int, limit: int | None) -> None:
        self.world.fold(node, number, limit)

    @rule(node=NODE, with_completed=st.booleans())
    def reconcile(self, node: str, with_completed: bool) -> None:
        self.world.reconcile(node, with_completed)

    @rule(node=NODE, with_wal=st.booleans())
    def delete_ledger(self, node: str, with_wal: bool) -> None:
        self.world.delete_ledger(node, with_wal)

    @rule(node=NODE)
    def delete_home(self, node: str) -> None:
        self.world.delete_home(node)

    @rule(node=NODE, fault=KILL)
    def rebuild(self, node: str, fault: Fault | None) -> None:
        self.world.rebuild(node, fault)

    @rule(node=NODE, fault=KILL)
    def publish_snapshot(self, node: str, fault: Fault | None) -> None:
        self.world.publish(node, fault)

    @rule(number=NUMBER, to=PLACE, new_name=st.none() | st.sampled_from(("x", "z.1")))
    def move_by_hand(self, number: int, to: str, new_name: str | None) -> None:
        self.world.move_by_hand(number, to, new_name)

    @rule(number=NUMBER)
    def delete_by_hand(self, number: int) -> None:
        self.world.delete_by_hand(number)

    @invariant()
    def no_job_is_lost_and_ledgers_agree(self) -> None:
        self.is_sound = False
        self.world.check_jobs()
        self.world.check_ledgers()
        self.is_sound = True


class ArrayMachine(RuleBasedStateMachine):
    """Arrays, whose tasks run in parts on several nodes, and of which some follow others."""

    can_refuse = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="jobjar-model-", dir=SHM if os.access(SHM, os.W_OK) else None))
        self.world = ArrayWorld(self.directory, self.can_refuse)
        self.is_sound = True

    @initialize()
    def begin(self) -> None:
        """An array, and a worker that holds its first chunk."""
        self.world.submit_tasks(NODES[0], 6, 4, 0, 0, None)
        self.world.start_worker(NODES[0], 1, None)
        self.claim(0, True, None)

    @rule(
        node=NODE, tasks=st.sampled_from((6, 6, 3)), chunk=st.integers(1, 6), retries=st.integers(0, 1), after=NUMBER,
        fault=KILL,
    )  # fmt: skip
    def submit_tasks(self, node: str, tasks: int, chunk: int, retries: int, after: int, fault: Fault | None) -> None:
        if len(self.world.arrays()) < 3:
            self.world.submit_tasks(node, tasks, chunk, retries, after, fault)

    @rule(number=NUMBER, count=st.integers(1, 6), has_idle=st.booleans(), fault=KILL_LATER)
    def run_tasks(self, number: int, count: int, has_idle: bool, fault: Fault | None) -> None:
        body = self.world.pick(number)
        if body is not None:
            self.world.claim(body, True, None)
            self.world.run_tasks(body, count, has_idle, fault)

    @rule(number=NUMBER, count=st.integers(1, 6), node=NODE, at=NUMBER)
    def run_tasks_while_it_is_taken_back(self, number: int, count: int, node: str, at: int) -> None:
        body = self.world.pick(number)
        if body is not None and body.node != node:
            one = body
            self.world.claim(body, True, None)
            act = lambda: self.world.take_back(node, one)  # noqa: E731
            self.world.run_tasks(body, count, True, Fault("between_pieces", 3 * at), act)

    @rule(node=NODE, number=NUMBER, fault=KILL)
    def retry_failed(self, node: str, number: int, fault: Fault | None) -> None:
        self.world.retry_failed(node, number, fault)

    @rule(node=NODE, number=NUMBER, first=st.integers(1, 6), fault=KILL)
    def cancel_tasks(self, node: str, number: int, first: int, fault: Fault | None) -> None:
        self.world.cancel_tasks(node, number, first, fault)

    teardown = Machine.teardown
    settle_dependents = Machine.settle_dependents
    start_worker = Machine.start_worker
    claim = Machine.claim
    kill_worker = Machine.kill_worker
    look_again = Machine.look_again
    recover = Machine.recover
    take_back = Machine.take_back
    fold = Machine.fold
    reconcile = Machine.reconcile
    delete_ledger = Machine.delete_ledger
    rebuild = Machine.rebuild
    no_job_is_lost_and_ledgers_agree = Machine.no_job_is_lost_and_ledgers_agree


class NetworkMachine(Machine):
    """On a disk whose renames always overwrite, as NFS."""

    can_refuse = False


@pytest.mark.slow
@pytest.mark.timeout(900)  # so that a failure can be made short
@pytest.mark.parametrize("machine", [Machine, NetworkMachine, ArrayMachine])
def test_a_jar_keeps_its_promise_whatever_happens_to_it(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES
            if machine is not ArrayMachine
            else EXAMPLES // 5,  # each ends with a run of all its tasks
            derandomize="MODEL_EXAMPLES" not in os.environ,  # what is found at random is for the long run
            stateful_step_count=STEPS,
            # To explain a failure takes longer than to find it: the steps say enough, and come before the time-out.
            phases=[phase for phase in Phase if phase != Phase.explain],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
