"""Every example of every page is run as it is typed, in the order of its page, in a world of its own with real workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, Stage, make_session, read_pieces, read_sections
from tests.rig import BIN

pytestmark = [pytest.mark.slow, pytest.mark.root]
NEEDED = ("unshare", "cc", "jq", "sqlite3")
# A root directory with this machine's programs and Python, but with its own /data, /home, /opt, /shared, /tmp and /var, on a node
# with the name `rain`, whose processes all end with the session.
_WORLD = r"""
root=$1
hostname rain
mount -t tmpfs tmpfs "$root"
for entry in /*; do
    name=${entry#/}
    case $name in data|home|opt|proc|shared|tmp|var) continue ;; esac
    if [ -L "$entry" ]; then cp -P "$entry" "$root/$name"
    elif [ -d "$entry" ]; then mkdir "$root/$name"; mount --rbind "$entry" "$root/$name"
    fi
done
mkdir -p "$root/proc" "$root/data" "$root/home/ann" "$root/opt/local/bin" "$root/shared" "$root/over/upper" "$root/over/work"
mkdir -p -m 1777 "$root/tmp" "$root/var" "$root/var/tmp"
mount -t proc proc "$root/proc"
over=$root/over
mount -t overlay overlay -o "lowerdir=/usr/local/bin,upperdir=$over/upper,workdir=$over/work" "$root/usr/local/bin"
for place in "$2" "$3"; do
    test -e "$root$place" || { mkdir -p "$root$place"; mount --rbind "$place" "$root$place"; }
done
mkdir "$root/tmp/source"
cp -r examples "$root/tmp/source/examples"
cat > "$root/tmp/session"
cd "$root/tmp/source"
exec chroot "$root" /bin/sh -c 'cd /tmp/source && exec /bin/sh /tmp/session'
"""
# What the pages speak of and do not bring: programs of the reader's, data, a package.
_THINGS = r"""
program() { cat > "$1"; chmod 755 "$1"; }
program /usr/local/bin/big_computation <<'end'
#!/bin/sh
test -r "$1" && echo "$2 $3"
end
program /opt/local/bin/standalone_job <<'end'
#!/bin/sh
echo "$JJ_JOB"
end
cp /opt/local/bin/standalone_job .
program /usr/local/bin/run_sr <<'end'
#!/bin/sh
test -d "$1" && echo "$2 $3" > "/data/sr_output/.$2" && mv "/data/sr_output/.$2" "/data/sr_output/$2"
end
program /usr/local/bin/merge_sr <<'end'
#!/bin/sh
cat "$1"/* > /data/merged
end
mkdir -p /data/sr_input /data/sr_output /data/in /data/packages/wc/bin /data/packages/wc/package /data/project
touch /data/infile.tmp
echo 'one two three' > /data/in/words.txt
echo 'four five' > '/data/in/more words.txt'
program /data/packages/wc/bin/count_words <<'end'
#!/bin/sh
cat "$@" | wc -w
end
echo 'PATH=$1/bin:$PATH' > /data/packages/wc/package/setup.sh
tar czf /data/packages/wc-1.2.tgz -C /data/packages/wc .
"""
# The reader is a member of the group whose jar it is; here it is root.
_AS_ROOT = """
start_worker() { command start_worker --as-root-for-group "$@"; }
check_workers() { command check_workers --as-root-for-group "$@"; }
check_pilots() { command check_pilots --as-root-for-group "$@"; }
"""
_JAR = "jobjar init /tmp/jar; export JJ_HOME=/tmp/jar\n"
_WAIT_FOR_ALL = "jobjar wait --timeout 200s --all --since 1h"
_COUNT_JUG = next(piece.text for piece in read_pieces(ROOT / "docs/guide.md") if piece.language == "jug")


def batch(name: str, command: str, *keys: str) -> str:
    """Lines of sh that run a batch of one job."""
    text = "\\n".join(("batch", f"name = {name}", f'run_command = "{command}"', *keys))
    return f"printf '{text}\\n' | submit_batch -; jobjar wait --timeout 200s --batch {name}\n"


_WORDCOUNT = batch(
    "wordcount", "mkdir output/log; echo 7 > output/total; echo x > output/log/job.log; echo 1 > output/result.txt"
)
_COUNT = f"cat > count.jug <<'end'\n{_COUNT_JUG}end\n"
_STORED_AGAIN = "sed s/stored/again/ examples/jug/storage/storage.jug | submit_batch - class=DISK; start_worker"
_REGISTRY = "it takes packages from a registry; the programs of this tree stand there instead"
_UNPACK_NEXT = "mkdir next; tar xzf jobjar-0_1_0.tgz -C next; mv next/jobjar-0_1_0 jobjar-0_2_0"
_CRON = "what cron starts is for a host that has cron; tests/programs/test_nightly.py reads these files"
_GONE = "no node is gone here; tests/hosts/test_giving_up.py has one"
_PEER = "it wants a second node; tests/hosts/test_doctor_peer.py has one"
_INSTALLED = f"for program in {ROOT}/scripts/*; do ln -s {BIN}/${{program##*/}} %s/; done"


# The reader's own programs and data, a jar with workers, and a job that runs until it is ended.
_TO_MIGRATE = r"""
jobjar init /tmp/work; export JJ_HOME=/tmp/work; start_worker; start_worker GPU
program() { cat > "$1"; chmod 755 "$1"; }
mkdir -p /tmp/mine/data; cd /tmp/mine
for name in a b; do printf '3\n1\n2\n' > data/$name.csv; done
ls data/* > files.txt
printf '#!/bin/sh\nsort "$1"\n' | program fit.sh
printf '#!/bin/sh\necho trained\n' | program train.sh
"""
_RUNS = "jobjar submit --name %s 'touch /tmp/mine/on; sleep 600'; until test -e /tmp/mine/on; do sleep 0.1; done; rm /tmp/mine/on"


_FAILS = "jobjar submit --wait false || test $? = 1"
_WAITS = "jobjar submit -c NIGHT --name %s true"
SECTIONS: dict[str, dict[str, Stage]] = {
    "Everywhere": {},
    "Slurm": {
        "jobjar submit -f fit.sh": Stage(before=_TO_MIGRATE),
        "jobjar list --state running,held,waiting": Stage(before=_WAITS % "night"),
        "jobjar retry fit": Stage(before="jobjar wait --timeout 200s fit"),
        "jobjar cancel --state waiting": Stage(before=_WAITS % "other"),
        "jobjar cancel --name night": Stage(before=_WAITS % "night"),
        "jobjar list --outcome failed": Stage(before=_FAILS),
        "#JJ name = lines-of-a": Stage(
            name="lines.sh", after="jobjar submit --wait -f ./lines.sh data/a.csv; test -s logs/lines-of-a-*.out"
        ),
        "jobjar submit 'echo $JJ_SCRATCH_DIR'": Stage(
            after='jobjar wait --timeout 200s @5; test -n "$(jobjar output @5)"'
        ),
    },
    "GNU Parallel": {
        "start_worker": Stage(before=_TO_MIGRATE),
        "jobjar wait --all": Stage(after="test -s out/a; test $(jobjar output @1) = 3; test -e data/b.csv.gz"),
        "jobjar retry --failed": Stage(before=_FAILS),
    },
    "HyperQueue": {
        "start_worker": Stage(before=_TO_MIGRATE),
        "jobjar list --state running": Stage(
            before=_RUNS % "busy", after="jobjar kill busy; jobjar wait busy || test $? = 1"
        ),
        "jobjar cancel --all": Stage(before=_WAITS % "last"),
    },
    "pueue": {
        "start_worker": Stage(before=_TO_MIGRATE),
        "jobjar kill runs": Stage(before=_RUNS % "runs"),
        "jobjar retry runs": Stage(before="jobjar wait runs || test $? = 1", after="jobjar cancel runs"),
        "jobjar retry --failed": Stage(before=_FAILS),
    },
    "task-spooler": {
        "start_worker": Stage(before=_TO_MIGRATE),
        "jobjar priority urgent 99": Stage(before=_WAITS % "urgent"),
        "jobjar kill endless": Stage(before=_RUNS % "endless", after="jobjar wait endless || test $? = 1"),
    },
}
STAGES: dict[str, dict[str, Stage]] = {
    "README.md": {
        "make demo ": Stage(
            before=_THINGS,
            instead={
                "make demo ": (":", "tests/test_demo.py runs it"),
                "make demo-jug ": (":", "tests/test_demo.py runs it"),
                "make test ": (":", "this is a part of it"),
            },
        ),
        "$ python3 -m venv": Stage(
            instead={"python3 -m venv ~/jobjar": ("mkdir -p ~/jobjar/bin; " + _INSTALLED % "~/jobjar/bin", _REGISTRY)}
        ),
    },
    "tutorial.md": {
        "count=$(jobjar submit": Stage(after="grep -q '21 total' report.txt"),
        "ls part*.txt": Stage(after='test "$(jobjar output --all each | tr "\\n" " ")" = "1 2 3 4 5 6 "'),
        "jobjar output --failed again": Stage(after='test $(jobjar output "again[5]") = 5'),
    },
    "guide.md": {
        "cd /opt": Stage(before=f"{_THINGS}{_AS_ROOT}{BIN}/python {ROOT}/release/make_tarball.py /opt"),
        "jobjar-0_1_0/bin/stop_worker": Stage(
            instead={"gunzip < jobjar-0_2_0": (_UNPACK_NEXT, "the next version is still to come")},
            after="for words in 'submit_job true' start_worker 'jobjar wait --all' 'stop_worker all'; "
            "do jobjar-0_1_0/bin/$words; done; cd /tmp/source",
        ),
        "python3 -m venv": Stage(
            instead={"/shared/jobjar/bin/pip": (_INSTALLED % "/shared/jobjar/bin", _REGISTRY)},
        ),
        "stop_worker all": Stage(
            instead={
                "stop_worker rain   ": ("start_worker; stop_worker rain", "those that ran have just been stopped"),
                "stop_worker rain flower": (
                    "start_worker; stop_worker rain flower.13764 || test $? = 1",
                    "no node flower is here: as the page says, that is an error, and the others are stopped all the same",
                ),
            }
        ),
        "start_worker --on rain,snow": Stage(
            instead={
                "start_worker --on rain,snow": (
                    "start_worker --on rain,snow --per-host 4 LINUX || test $? = 1",
                    "there are no such hosts; tests/programs/test_start_by_ssh.py has some",
                )
            }
        ),
        "pause_worker all": Stage(before="start_worker LINUX"),
        "recover_jobs --node rain": Stage(
            instead={
                "recover_jobs --node rain": ("recover_jobs --node rain --yes || test $? = 1", _GONE),
                "recover_jobs --worker rain.7": ("recover_jobs --worker rain.7 --yes || test $? = 1", _GONE),
            }
        ),
        "#JJ retries = 2": Stage(name="patient", after=f"submit_job -f ./patient; {_WAIT_FOR_ALL}"),
        "submit_job /usr/local": Stage(after=_WAIT_FOR_ALL),
        "cd /data/project": Stage(
            before="mkdir -p /data/project/data; echo 1 > /data/project/data/f1.dat; touch /data/project/night.py\n"
            "printf '#!/bin/sh\\ntest -r \"$1\"\\n' > /data/project/fit.sh; chmod +x /data/project/fit.sh",
            after=f"{_WAIT_FOR_ALL}; test -s sums.txt && test -e logs/sums-*.txt; cd /tmp/source",
            instead={
                "jobjar submit --begin 22:00": (
                    "jobjar submit --begin +1s --env LEVEL=3 - <<'END'",
                    "nobody waits for the night",
                ),
                "python3 night.py": ("python3 night.py", "there is no mail here"),
            },
        ),
        "fit=$(jobjar submit": Stage(before="cd /data/project", after=f"{_WAIT_FOR_ALL}; cd /tmp/source"),
        "sweep=$(jobjar": Stage(
            before="cd /data/project; for i in $(seq 100); do echo $i > data/f$i.dat; done; ls data/f1*.dat > inputs.txt",
            after='test $(jobjar output --all "$words" | wc -l) = $(wc -l < inputs.txt); cd /tmp/source',
            instead={"jobjar retry --failed": ('jobjar retry --failed "$sweep" || test $? = 1', "none failed here")},
        ),
        "jobjar map wc": Stage(
            before="cd /data/project; echo one two > a.txt",
            after="test -s f1.sorted; "
            'test "$(jobjar map echo {2} {1} ::: a ::: b c)" = "$(printf \'b a\\nc a\')"; cd /tmp/source',
        ),
        "import jobjar": Stage(after="test $(ls /data/sr_output | wc -l) = 10; rm /data/sr_output/*"),
        "cd $JJ_HOME/limbo": Stage(after=f"{_WAIT_FOR_ALL}; cd /tmp/source"),
        "jobname=": Stage(after=f"jobjar wait --timeout 200s '*-nightly.15'; {_WAIT_FOR_ALL}"),
        "# distribute_sr": Stage(name="/usr/local/bin/distribute_sr"),
        "# monitor_sr": Stage(
            name="/usr/local/bin/monitor_sr",
            after=f"submit_job distribute_sr; {_WAIT_FOR_ALL}; test $(wc -l < /data/merged) = 10; rm /data/merged",
        ),
        "# count.jug": Stage(name="count.jug"),
        "submit_batch count.jug": Stage(
            after="jobjar wait --timeout 200s count-3; test $(list_outputs count-3 | grep -c counts/3/count-) = 200"
        ),
        "[batch]": Stage(
            name="more.toml",
            after="submit_batch more.toml level=3; jobjar wait --timeout 200s more-3; test $(get_output all-20 -) = 5",
        ),
        "#JJ described = yes": Stage(
            name="own", after=f"submit_job -f ./own; {_WAIT_FOR_ALL}; test $(cat /shared/jar/storage/count-17) = 3"
        ),
        "jobjar wait count-3": Stage(after=f"{_WAIT_FOR_ALL}; test $(wc -l < /data/merged) = 10"),
        "jobjar wait --batch count-3 --notify": Stage(
            before="program /usr/local/bin/mail <<'end'\n#!/bin/sh\ncat > /tmp/mailed\nend",
            after="wait; grep -q '^batch count-3: [0-9]* of [0-9]* succeeded' /tmp/mailed",
        ),
        "echo 'JJ_ON_END: ": Stage(after="jobjar config | grep -q '^JJ_ON_END .*mail -s'"),
        'eval "$(jobjar completion': Stage(
            instead={"eval ": ("bash -c 'eval \"$(jobjar completion bash)\"'", "it is for bash, and this is sh")}
        ),
        "jobjar doctor": Stage(
            instead={
                "jobjar doctor  ": (
                    "jobjar doctor || test $? = 1",
                    "what it finds dangerous depends on the disk of the tests",
                ),
                "jobjar doctor --peer": (":", _PEER),
            }
        ),
        "(crontab -l; cat $JJ_HOME/crontabs/worker": Stage(
            instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)}
        ),
        "# Lines that start": Stage(
            name="config.ini",
            after="mkdir /shared/jar_workers; env -u JJ_HOME JJ_CONFIG_FILE=$PWD/config.ini jobjar config | grep SMALL",
        ),
    },
    "described-jobs.md": {
        "for name in wordcount": Stage(before=_JAR),
        "batch {": Stage(name="words.jug"),
        "submit_batch words.jug": Stage(after="jobjar wait --timeout 200s words"),
        "PATH=$1/bin": Stage(
            name="setup.sh", after="grep -v '^#' examples/jug/library/package/setup.sh | diff - setup.sh"
        ),
        "submit_batch examples/jug/library": Stage(
            after="jobjar wait --timeout 200s library; get_output greeting.txt -"
        ),
        "mkdir queue": Stage(
            after="jobjar wait --timeout 200s polling; test $(list_outputs polling | grep -c result-) = 3"
        ),
        "submit_batch examples/jug/storage": Stage(after="jobjar wait --timeout 200s stored"),
        "stop_worker all": Stage(
            after=f"{_STORED_AGAIN}; jobjar wait --timeout 200s again; list_outputs again | grep result-3"
        ),
    },
    "web.md": {
        "jobjar web": Stage(
            before=_JAR + "start_worker\n" + batch("BATCH", "true") + "jobjar wait --timeout 200s BATCH",
            instead={
                "jobjar web": (
                    "timeout --signal INT 60 jobjar web --port 0 > printed & "
                    "until grep -q '^http://127.0.0.1:[0-9]*/[?]token=' printed; do sleep 0.1; done; "
                    "kill -INT $!; wait $! || true",
                    "it stays until somebody ends it",
                )
            },
        ),
        "ssh -L": Stage(instead={"ssh ": (":", "another machine that is reached so")}),
        "jobjar report --html report": Stage(after="grep -q 'Jobs that ended' report.html"),
        "jobjar report --html batch": Stage(after="grep -q '1 of 1 jobs have ended' batch.html"),
        "(crontab -l; cat $JJ_HOME/crontabs/metrics": Stage(
            instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)}
        ),
    },
    "abort_batch.1": {"abort_batch": Stage(before=f"{_THINGS}{_JAR}{_COUNT}submit_batch count.jug level=3")},
    "batch_edit.1": {"batch_edit": Stage(before=f"{_THINGS}{_JAR}{_COUNT}submit_batch count.jug level=3")},
    "batch_status.1": {
        "batch_status": Stage(before=_JAR + "start_worker\n" + batch("wc", "echo a b | wc -w > output/words"))
    },
    "pilots.md": {
        "jobjar pilots add night": Stage(before=_JAR),
        "(crontab -l; cat $JJ_HOME/crontabs/pilots": Stage(
            instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)}
        ),
    },
    "check_pilots.1": {
        "check_pilots": Stage(before=_JAR, instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)})
    },
    "check_workers.1": {
        "check_workers": Stage(before=_JAR, instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)})
    },
    "get_output.1": {
        "get_output": Stage(
            before=_JAR + "start_worker\n" + _WORDCOUNT,
            instead={
                "get_output --job 0qk8z": (
                    "get_output --job \"$(list_outputs --format json | jq -r '.outputs[0].job')\" result.txt /tmp/",
                    "the id is another one each time",
                )
            },
        )
    },
    "jobjar-config.5": {
        "# Two workers": Stage(
            name="config.ini", after=_JAR + "JJ_CONFIG_FILE=$PWD/config.ini jobjar config | grep -q LINUX"
        )
    },
    "jobjar.1": {"jobjar init": Stage(before=_THINGS + "printf 'all:\\n\\ttrue\\n' > /data/project/Makefile")},
    "list_outputs.1": {"list_outputs": Stage(before=_JAR + "start_worker\n" + _WORDCOUNT)},
    "pause_worker.1": {"pause_worker": Stage(before=_JAR + "start_worker")},
    "recover_jobs.1": {
        "recover_jobs": Stage(before=_JAR, instead={"(crontab -l; cat $JJ_HOME/crontabs/": (":", _CRON)})
    },
    "start_worker.1": {
        "start_worker": Stage(
            before=_JAR,
            instead={
                "start_worker --foreground": (
                    'start_worker --foreground & until stop_worker "$(hostname).$!"; do sleep 0.1; done; wait $!',
                    "it stays until somebody stops it",
                )
            },
        )
    },
    "stop_worker.1": {
        "stop_worker": Stage(
            before=_JAR + "start_worker",
            instead={
                "stop_worker rain flower": (
                    "start_worker; stop_worker rain flower.13764 meadow || test $? = 1",
                    "no nodes flower and meadow are here: that is an error, and the others are stopped all the same",
                )
            },
        )
    },
    "submit_batch.1": {
        "submit_batch": Stage(
            before=f"{_THINGS}{_JAR}{_COUNT}printf 'batch\\nname = first\\nrun_command = true\\n' > first.jug\n"
            'printf \'[batch]\\nname = "second"\\nrun_command = "true"\\n\' > second.toml',
            instead={
                "sed s/small/large/": (
                    "sed s/count-/large-/ count.jug | submit_batch - level=3",
                    "the name has to be new",
                )
            },
        )
    },
    "submit_job.1": {
        "submit_job /usr/local": Stage(
            before=_THINGS + _JAR, after="start_worker LINUX; jobjar wait --timeout 200s '*test_run.10'"
        ),
    },
    "system_status.1": {"system_status": Stage(before=_JAR)},
    "unique_job_name.1": {
        "jobname=": Stage(before=_THINGS + _JAR, after="start_worker; jobjar wait --timeout 200s '*nightly.15'")
    },
    "unpause_worker.1": {"unpause_worker": Stage(before=_JAR)},
    "workload_limit.1": {"workload_limit": Stage(before=_JAR)},
}


@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"the examples need {', '.join(NEEDED)}")
@pytest.mark.timeout(900)  # the guide has hundreds
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_of_a_page_runs_as_it_is_typed(page: Path, tmp_path: Path) -> None:
    run_session(make_session(read_pieces(page), STAGES[page.name]), tmp_path)


@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"the examples need {', '.join(NEEDED)}")
@pytest.mark.parametrize("section", read_sections())
def test_every_equivalent_of_what_people_used_to_type_runs_as_it_is_typed(section: str, tmp_path: Path) -> None:
    run_session(make_session(read_sections()[section], SECTIONS[section]), tmp_path)


def run_session(session: str, tmp_path: Path) -> None:
    """Type a session in a world of its own; all of it has to succeed."""
    root = tmp_path / "root"
    root.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JJ_")}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/home/ann", "TMPDIR": "/tmp"}
    words = ["unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child"]
    result = subprocess.run(
        [*words, "/bin/sh", "-ec", _WORLD, "sh", str(root), str(ROOT), sys.base_prefix],
        input=session,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    assert "Traceback" not in result.stderr
