"""What the storm's runs do: a little work, by the dice, and a line in a ledger at both ends.

The task's lock is inherited by all that the run starts: a second run that lives beside it, or beside
what is left of it, cannot take it and says so.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
import zlib

TASK, RUN, STORM = (os.environ[name] for name in ("ORCHESTRATE_TASK_ID", "ORCHESTRATE_RUN", "STORM"))
CHILD = 'trap "" INT HUP {}; i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 0.2; done'


def note(word):
    """One line, in one write: nobody's line is torn."""
    with open("/proc/self/stat", "rb") as file:
        started = file.read().rpartition(b")")[2].split()[19].decode()
    fd = os.open(f"{STORM}/ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{word} {TASK} {RUN} {os.getpid()} {started} {time.monotonic():.3f}\n".encode())
    os.close(fd)


def main():
    """Be one agent."""
    dice = zlib.crc32(f"{os.environ['STORM_SEED']} {TASK} {RUN}".encode())
    kind, dice = dice % 100, dice // 100
    lock = os.open(f"{STORM}/locks/{TASK}", os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("overlap")
    note("begin")
    if kind < 8:  # leaves a child behind, in a session of its own
        _child(CHILD.format(""), env=None)
    elif kind < 11:  # one that is deaf to TERM too
        _child(CHILD.format("TERM"), env=None)
    elif kind < 13:  # one that sheds its environment, and is no child of anybody's any more
        _child(f"( {CHILD.format('')} ) &", env={"PATH": os.environ["PATH"]})
    elif kind < 15:  # is deaf itself, and hangs
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(1)
    time.sleep((0.01, 0.05, 0.2, 0.5, 1.0, 1.0, 2.0, 2.0)[dice % 8])
    if 85 <= kind < 95:
        note("end")
        sys.exit("by the dice")
    print(f"{TASK} is done\n```orchestrate\nnotes: ['seen by {TASK} {RUN}']\n```")
    if kind >= 95:
        print("known_issues in run", RUN)
    sys.stdout.flush()
    note("end")


def _child(script, env):
    everything = None if env is None else env
    subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, close_fds=False, env=everything)


main()
