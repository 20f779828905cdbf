from tests.rig import Rig


def test_a_submitted_command_runs_and_completes(rig: Rig) -> None:
    name = rig.submit("echo", "hello")
    rig.run_until_idle()
    assert rig.names("completed") == [name]
    assert rig.run("jobjar", "output", name).stdout == "hello\n"
    rig.assert_clean()
