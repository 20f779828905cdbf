"""Files that a person removed on purpose are no difference, and of what is one there is a line for each kind."""

from __future__ import annotations

from tests.rig import Rig

COUNT = 30


def completed_jobs(rig: Rig) -> list[str]:
    for number in range(COUNT):
        rig.drop(f"job{number:03}", "#!/bin/sh\n")
    rig.run_until_idle()
    return rig.names("completed")


def test_completed_files_that_somebody_removed_are_one_note_and_no_difference(rig: Rig) -> None:
    names = completed_jobs(rig)
    for name in names[1:]:
        (rig.home / "completed" / name).unlink()
    checked = rig.run("jobjar", "check")
    assert checked.stdout == ""
    [note] = checked.stderr.splitlines()
    assert f"{COUNT - 1} jobs that had ended have no file any more" in note and "--verbose" in note
    each = rig.run("jobjar", "check", "--verbose")
    assert each.stdout == "" and len(each.stderr.splitlines()) == COUNT - 1
    # As quiet as is asked for, and then it is known.
    quiet = rig.run("recover_jobs", "--quiet")
    assert quiet.stdout == quiet.stderr == ""
    shown = rig.show(names[5])
    assert (shown["state"], shown["attempts"][0]["outcome"]) == ("removed", "succeeded")
    checked = rig.run("jobjar", "check")
    assert checked.stdout == checked.stderr == ""
    rig.run("jobjar", "rebuild")
    rig.assert_clean()


def test_recovery_tells_of_removed_files_once_and_of_each_where_it_is_asked_to(rig: Rig) -> None:
    names = completed_jobs(rig)
    for name in names[:10]:
        (rig.home / "completed" / name).unlink()
    said = rig.run("recover_jobs").stdout.splitlines()
    assert len(said) == 2 and said[0].startswith("10 jobs that had ended have no file any more"), said
    for name in names[10:15]:
        (rig.home / "completed" / name).unlink()
    said = rig.run("recover_jobs", "--verbose").stdout.splitlines()
    assert len(said) == 6 and all("was removed" in line for line in said[:-1])
    (rig.home / "completed" / names[20]).unlink()
    night = rig.run("recover_jobs", "--nightly", "--quiet")
    assert night.stdout == night.stderr == ""


def test_what_differs_is_a_line_for_each_kind_with_a_count(rig: Rig) -> None:
    names = completed_jobs(rig)
    for number, name in enumerate(names):
        if number < 20:  # put back by hand
            (rig.home / "completed" / name).rename(rig.home / "limbo" / name)
        else:
            (rig.home / "completed" / f"{name}.copy").write_text("#!/bin/sh\n")
            (rig.home / "completed" / f"{name}.copy").chmod(0o755)
    checked = rig.run("jobjar", "check", check=False)
    assert checked.returncode == 1
    assert "`recover_jobs` has the ledger agree with the directories" in checked.stderr
    lines = checked.stdout.splitlines()
    assert len(lines) == 2, lines
    assert any(line.startswith("20 jobs are not where the ledger has them (one of them: limbo/") for line in lines)
    assert any(line.startswith("10 jobs are not known to the ledger (one of them: completed/") for line in lines)
    assert len(rig.run("jobjar", "check", "-v", check=False).stdout.splitlines()) == 30
    said = rig.run("recover_jobs").stdout.splitlines()
    assert len(said) == 3 and any(line.startswith("20 jobs are not where") for line in said)
    rig.assert_clean()
