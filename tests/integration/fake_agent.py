"""A real program that does what its prompt says: each line `@word argument…` is an order, in turn.

It stands for every agent that misbehaves. Words are split as a shell splits them; `\\n` in a word is
a line break. `@run N word …` is obeyed in attempt N only.

    @say TEXT          print a line                 @half TEXT       print it without a line's end
    @exit N            end with this status         @hang            say nothing for an hour
    @ignore TERM INT   be deaf to these signals     @spin SECONDS    use the CPU and say nothing
    @ledger FILE       append "task run" to it      @wait FILE       until it is there
    @grandchild FILE   leave a child in a session   @print_mb N      so many MB of numbered lines
                       of its own; its pid in FILE  @env             print the environment as JSON
    @json TEXT         print it as it is            @prompt          print the whole prompt
    @output TEXT       write it to the output file  @facts YAML…     end with an orchestrate block
    @args              print argv as JSON           @write FILE TEXT
    @close             close stdout and stderr      @stop            be stopped, as by Ctrl-Z
    @memory MB         take so much and keep it     @fork N          so many children that only wait
    @orphans FOLDER    children of every kind that outlive it, each a file with its pid
    @last_words FILE   write it when interrupted, and end
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

HOUR = 3600
KEPT = []


def prompt_of(argv):
    """The prompt, however it was handed over."""
    if "--prompt-file" in argv:
        with open(argv[argv.index("--prompt-file") + 1], encoding="utf-8") as file:
            return file.read()
    if "--prompt" in argv:
        return argv[argv.index("--prompt") + 1]
    return sys.stdin.read()


def print_mb(number):
    line = "x" * 80
    left, count = number * 1_000_000, 0
    while left > 0:
        text = f"{count:09d} {line}\n"
        sys.stdout.write(text)
        left -= len(text)
        count += 1


def append(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, text.encode())
    os.close(fd)


def grandchild(path):
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(3600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(str(child.pid))


def orphans(folder):
    """One in the same session, one in its own, one forked twice, one without its environment, one without anything."""
    os.makedirs(folder, exist_ok=True)
    lock = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if names(fd).endswith("/alive"))
    bare = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ways = {
        "same_session": {},
        "own_session": {"start_new_session": True},
        "forked_twice": {"start_new_session": True},
        "no_environment": {"start_new_session": True, "env": {}, "pass_fds": (lock,)},
        "nothing_left": {"start_new_session": True, "env": {}, **bare},
    }
    for name, options in ways.items():
        if name == "forked_twice":
            middle = os.fork()
            if middle:
                os.waitpid(middle, 0)
                continue
        code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(3600)"
        child = subprocess.Popen([sys.executable, "-S", "-c", code], **options)
        with open(f"{folder}/.{name}", "w", encoding="ascii") as file:
            file.write(str(child.pid))
        os.rename(f"{folder}/.{name}", f"{folder}/{name}")
        if name == "forked_twice":
            os._exit(0)


def names(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def fork(count):
    for _ in range(count):
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            time.sleep(HOUR)
            os._exit(0)


def last_words(path):
    def write(number, frame):
        with open(path, "w", encoding="ascii") as file:
            file.write("interrupted")
        os._exit(1)

    signal.signal(signal.SIGINT, write)


def obey(word, words, prompt):
    """One order."""
    if word == "say":
        print(*words)
    elif word == "half":
        print(*words, end="")
    elif word == "json":
        print(" ".join(words))
    elif word == "exit":
        sys.stdout.flush()
        os._exit(int(words[0]))
    elif word == "hang":
        sys.stdout.flush()
        deadline = time.monotonic() + HOUR
        while time.monotonic() < deadline:  # a signal that is only ignored must not wake it for good
            time.sleep(1)
    elif word == "ignore":
        for name in words:
            signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
    elif word == "spin":
        deadline = time.monotonic() + float(words[0])
        while time.monotonic() < deadline:
            pass
    elif word == "ledger":
        append(words[0], f"{os.environ['ORCHESTRATE_TASK_ID']} {os.environ['ORCHESTRATE_RUN']}\n")
    elif word == "wait":
        sys.stdout.flush()
        while not os.path.exists(words[0]):
            time.sleep(0.01)
    elif word == "grandchild":
        grandchild(words[0])
    elif word == "print_mb":
        print_mb(int(words[0]))
    elif word == "close":
        sys.stdout.flush()
        for fd in (1, 2):
            os.close(fd)
    elif word == "stop":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "memory":
        KEPT.append(b"x" * (int(words[0]) * 1_000_000))
    elif word == "fork":
        fork(int(words[0]))
    elif word == "orphans":
        orphans(words[0])
    elif word == "last_words":
        last_words(words[0])
    elif word == "env":
        print(json.dumps(dict(os.environ)))
    elif word == "args":
        print(json.dumps(sys.argv))
    elif word == "prompt":
        print(prompt)
    elif word == "output":
        with open(os.environ["ORCHESTRATE_OUTPUT_FILE"], "w", encoding="utf-8") as file:
            file.write(" ".join(words))
    elif word == "write":
        with open(words[0], "w", encoding="utf-8") as file:
            file.write(" ".join(words[1:]))
    elif word == "facts":
        print("```orchestrate\n" + "\n".join(words) + "\n```")
    else:
        sys.exit(f"fake_agent: no such order: @{word}")


def main():
    prompt = prompt_of(sys.argv)
    orders = prompt.partition("## What to do")[2].partition("\n## ")[0]
    for line in orders.splitlines():
        if not line.startswith("@"):
            continue
        words = [word.replace("\\n", "\n") for word in shlex.split(line[1:])]
        if words[0] == "run":
            if words[1] != os.environ.get("ORCHESTRATE_RUN"):
                continue
            words = words[2:]
        obey(words[0], words[1:], prompt)


if __name__ == "__main__":
    main()
