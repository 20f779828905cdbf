"""All errors that people see: one class each, with its message and its exit status.

A message says what is wrong, where, and what to do next. Only `programs/` prints or exits: a program's `main()` prints the
message and returns `exit_status` (0 done, 1 could not, 2 usage, 124 timed out).
"""

from __future__ import annotations


class JarError(Exception):
    """The base of all errors of Job Jar. Keyword arguments fill the class's message template."""

    template = "{reason}"
    exit_status = 1

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        super().__init__(self.template.format(**fields))


class UsageError(JarError):
    exit_status = 2


class BadPriority(UsageError):
    template = (
        "priority {value!r} is not an integer between -999999999 and 999999999; "
        "higher numbers are claimed first, 0 is the default"
    )


class BadCategory(UsageError):
    template = (
        "category {value!r} cannot be used: {reason}; use letters, digits and . _ + @ % = -, "
        "not starting with a dot or a hyphen"
    )


class BadIdentifier(UsageError):
    template = "identifier {value!r} cannot be used: {reason}; use up to 80 letters, digits and _ + @ % = - ."


class BadLimit(UsageError):
    template = "{value!r} is not a limit: give a whole number from 0 to {highest}, or none"


class BadAttribute(UsageError):
    template = "{where}: {reason}; the attributes are: {known}"


class BadScript(BadAttribute):
    """A script whose `#JJ` lines, or whose first line, would be ignored."""

    template = "{where}: {reason}"


class SecondFile(JarError):
    """Another file of a known job."""


class BadCommand(UsageError):
    template = "the command cannot be made into a job: {reason}"


class BadSubmitFile(UsageError):
    template = "{problems}\nnothing was submitted"


class BadChange(UsageError):
    template = "batch {name} cannot be changed so: {reason}; nothing was changed"


class NotRestarted(BadChange):
    template = "batch {name} is aborted, but not restarted: {reason}"


class ConfigError(JarError):
    template = "{where}: {reason}"


class NoJarNamed(JarError):
    template = (
        "no jar is named: set JJ_HOME, name one in {personal_file}, or run the programs in the bin directory of a jar "
        "(`jobjar init DIR` makes one)"
    )


class NotUtf8(JarError):
    template = (
        "this Python takes file names for {encoding}, and a jar's are UTF-8: start it in UTF-8 mode "
        "(`python -X utf8`, or PYTHONUTF8=1 in its environment), or in a locale that is UTF-8"
    )


class NotAJar(JarError):
    template = (
        "{home} is not a jar ({reason}). Set JJ_HOME to the right place, mount its disk, or make a jar there: "
        "`jobjar init {home}`"
    )


class ForbiddenJar(JarError):
    template = (
        "{home} is not open to you: {reason}. A jar is opened to a group with `jobjar init --group DIR`, by its owner; "
        "JJ_HOME names the jar that is used"
    )


class DirectoryNotEmpty(JarError):
    template = "{path} is not empty and not a jar; nothing was changed. Name a new directory for the jar"


class RootForGroup(JarError):
    template = (
        "{path} belongs to {owner} (mode {mode:04o}), so others than root may put jobs there, and a worker of root's would run "
        "them as root. Start workers as a user of the group; or say --as-root-for-group, if all who may submit may do all that "
        "root may"
    )


class UnsafeJar(JarError):
    template = (
        "{path} is writable by others (mode {mode:04o}); workers run what is put there. "
        "`chmod o-w {path}`, or make the jar for a group with `jobjar init --group`"
    )


class UnsafeLink(JarError):
    template = (
        "{path} is a symbolic link; in a jar for a group any member may have put it there, to have others write elsewhere. "
        "Put the directory itself there"
    )


class CannotUseJar(JarError):
    template = "cannot {action} {path}: {reason}. Check the disk and the permissions of the jar; nothing was lost"


class CannotCarry(JarError):
    template = (
        "{what} cannot be put into the jar: {reason}; install Job Jar by pip into a virtual environment, and use "
        "the jobjar init of that"
    )


class OtherDisk(JarError):
    template = (
        "JJ_WORKER_HOME {workers} is on another disk than the jar {home}: jobs are claimed by rename, which does not cross "
        "disks. Name a directory on the jar's disk"
    )


class NotExecutable(JarError):
    template = "{path} is not a job: {reason}; nothing was submitted"


class SubmitFailed(JarError):
    template = "{path} was not submitted: {reason}; nothing of it is in the jar"


class BatchExists(JarError):
    template = "there is a batch {name} in the jar already, or it is just being submitted; nothing was submitted"


class UnknownBatch(JarError):
    """`hint` says which batches have a name like it."""

    template = "there is no batch {name} in {home}{hint}; `batch_status` lists them"

    def __init__(self, hint: str = "", **fields: object) -> None:
        super().__init__(hint=hint, **fields)


class BatchBusy(JarError):
    template = (
        "batch {name} is just being changed by process {pid} of node {node}; try again when that is done, or, if it died, "
        "run recover_jobs on that node (where that is gone for good: recover_jobs --batch {name} anywhere); nothing was changed"
    )


class BatchUnfinished(JarError):
    template = (
        "batch {name}: this is done for good (what was to be submitted is), but not all of it is seen yet: {reason}. "
        "recover_jobs goes on with it"
    )


class WorkerFailed(JarError):
    template = "the worker did not start: {reason}"


class NameTaken(WorkerFailed):
    template = "the worker did not start: another one has just taken the name {name}; start it again"


class NoneMayStart(WorkerFailed):
    template = "no worker was started: {path} stops every worker, new ones too. Remove it first"


class StillPaused(JarError):
    template = "nothing goes on: {path} pauses every worker. Remove it too"


class UnknownWorker(JarError):
    template = "{name}: no running worker and no node of running workers has this name; {running}"


class UnknownGone(JarError):
    template = (
        "{name}: no worker, no node of workers and none that changes a batch has this name; `system_status` lists them"
    )


class NotGone(JarError):
    template = (
        "nothing was given up: {living}. Stop what lives, or wait until it has been silent for some minutes{advice}"
    )


class NotConfirmed(JarError):
    """`reason` says what came instead of a yes."""

    template = "nothing was given up: {reason}"


class UnknownJob(JarError):
    """`hint` helps to find the right job: similar names, how to list all, and where this user may not look."""

    template = "{job}: no job of this name or id in {home}; {hint}"


class UnknownBatchOrJob(UnknownJob):
    template = "{job}: no batch, and no job of this name or id, in {home}; `batch_status` lists batches; {hint}"


class AmbiguousJob(JarError):
    template = "{job} names {count} jobs; use one of their ids: {ids}"


class OthersJob(JarError):
    """`submitter` submitted it; `user` asks."""

    template = "{job} is a job of {submitter}, not of {user}; --submitter {submitter} takes the jobs of that user"


class NotSteered(JarError):
    """`done` is what was asked for, as a participle."""

    template = "{job} was not {done}: {reason}"


class NothingSelected(JarError):
    """`filters` are those that were given, as a person would type them; `hint` may be empty."""

    template = "no job fits{filters}{hint}"


class UnknownTarget(UnknownJob):
    """`passed_over` names the places where this user may not look; `hint` says what has a name like it."""

    template = (
        "{job}: no job of this name or id, and no batch or category, in {home}{hint}; `system_status` and `batch_status` show "
        "what there is{passed_over}"
    )


class AmbiguousTarget(AmbiguousJob):
    template = "{job} is {meanings}: say {ways}"


class NotRunning(JarError):
    """`what_next` suggests what the user may have wanted for a job in this state."""

    template = "{job} does not run, so there is nothing to kill: it is {state}; {what_next}"


class NoOutput(JarError):
    template = "{job}: {reason}"


class BadOutput(JarError):
    template = "{directory} has what cannot be published: {reason}. Outputs are regular files with plain names"


class CannotStore(JarError):
    """Another try would not help. The files wait in the jar for somebody to look."""

    template = "{name} cannot be stored: {reason}"


class StorageTaken(CannotStore):
    template = (
        "{name} cannot be stored: {path} is there already with other content ({found}; published: {published}). Remove or "
        "rename one of the two"
    )


class PublishedChanged(CannotStore):
    template = "{path} is not the file that was published: {reason}"


class StorageFailed(JarError):
    """Another try may succeed."""

    template = "the storage software did not store {what}: {reason}"


class UnknownOutput(JarError):
    template = "no stored file has the name {name} (or not of that job or batch); `list_outputs` prints them"


class AmbiguousOutput(JarError):
    template = "{count} stored files have the name {name}; choose one with --job or --batch: {jobs}"


class CannotGetOutput(JarError):
    template = "{name} was not copied: {reason}"


class LedgerError(JarError):
    """The base of what keeps a process from using its ledger now: jobs and journals are safe, and most callers go on without."""


class LedgerBusy(LedgerError):
    template = "{path} has been locked for {waited_s:g} s by another process of this node; try again later"


class LedgerUnavailable(LedgerError):
    """`what_next` is what to do. Default: rebuild the ledger."""

    template = "ledger {path} cannot be used: {reason}. Jobs and journals are safe; {what_next}"

    def __init__(self, **fields: object) -> None:
        super().__init__(**{"what_next": "`jobjar rebuild` makes it anew", **fields})


class LedgerDiskFull(LedgerUnavailable):
    def __init__(self, **fields: object) -> None:
        super().__init__(**{"what_next": "make room on its disk", **fields})


class LedgerCorrupt(LedgerUnavailable):
    template = "ledger {path} is damaged: {reason}. Jobs and journals are safe; {what_next}"


class OtherVersion(LedgerUnavailable):
    """A rebuild alone does not help: the other version would refuse the new ledger."""

    template = (
        "version {ours} (here) and {theirs} of Job Jar use one jar: ledger {path} {how}. Jobs and journals are safe. "
        "Install one version for all nodes, workers and crontabs of this jar, stop the workers of the other one, and then run "
        "`jobjar rebuild` once; or, to use both for a while, set JJ_LEDGER_HOME to a directory of this version's own"
    )


class NewerLedger(OtherVersion):
    pass


class OtherVersionAtWork(JarError):
    template = (
        "version {ours} (here) and {theirs} of Job Jar use one jar: {workers} would refuse a ledger that this version makes. "
        "Stop them (stop_worker {names}), start workers of this version, and rebuild then; nothing was changed"
    )


class UnsafeLedgerHome(LedgerUnavailable):
    template = (
        "ledger home {path} cannot be trusted: {reason}; remove it, or set JJ_LEDGER_HOME to a directory of yours, for this "
        "jar alone, on a disk of this node"
    )


class SharedLedgerHome(JarError):
    """This is no LedgerUnavailable, after which programs look for answers elsewhere: the setting has to be corrected."""

    template = (
        "JJ_LEDGER_HOME {path} cannot be used: {why}, and each node needs a ledger of its own; unset it, or name a directory "
        "on a disk of this node"
    )


class TimedOut(JarError):
    template = "{what} did not happen within {timeout_s:g} s"
    exit_status = 124


class BadArchive(JarError):
    template = "{path} was not unpacked, nothing of it is there: {reason}"


class CannotFetch(JarError):
    template = "{location} cannot be fetched: {reason}"


class CannotInstall(JarError):
    template = "software package {location} cannot be used: {reason}"
