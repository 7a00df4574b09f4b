"""What programs say only in words: why they failed, and when the account may go on.

The words looked at are always one message, which the program itself marked as its failure.
All of its output is never searched: an agent that writes about rate limits is not limited.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from datetime import UTC, datetime, timedelta, tzinfo

from orchestrator.agents.base import Answer, Evidence, last_line, tail_text
from orchestrator.names import printable
from orchestrator.states import Outcome

ANSWER_LIMIT = 64 * 1024 * 1024  # bytes; of a longer text the end is read
LAST_SIGNAL = 255  # exit statuses from 129 to this one stand for signals

_STATUS = {
    401: Outcome.AUTH,
    402: Outcome.QUOTA,
    403: Outcome.AUTH,
    413: Outcome.CONTEXT_OVERFLOW,
    429: Outcome.RATE_LIMITED,
}

# The first that fits counts. Money stands first: its messages also speak of limits.
_WORDS = (
    (
        Outcome.QUOTA,
        r"credit balance is too low|quota exceeded\. check your plan|exceeded your current quota"
        r"|insufficient_quota|usage_not_included|to use codex with your chatgpt plan|out of credits"
        r"|monthly cycle|payment required",
    ),
    (
        Outcome.RATE_LIMITED,
        r"hit your [^.]{0,40}limit|usage limit reached|usage_limit_reached|out of extra usage|rate.?limit"
        r"|too many requests|resource.?exhausted|resource has been exhausted|exhausted your daily quota",
    ),
    (
        Outcome.AUTH,
        r"not logged in|authentication|unauthori[sz]ed|unauthenticated|invalid api key|incorrect api key"
        r"|api.key not valid|missing environment variable|specify the \w*API_KEY|please run /login"
        r"|(?:log|sign) in again|token has expired",
    ),
    (
        Outcome.CONTEXT_OVERFLOW,
        r"prompt is too long|input is too long|context window|context.length|input_too_large"
        r"|request too large|exceeds the maximum (?:length|number of tokens)|stdin input exceeds",
    ),
    (
        Outcome.UNAVAILABLE,  # mostly without a status: nobody was there to give one
        r"\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT)\b|fetch failed|error sending request"
        r"|experiencing high demand",
    ),
)

# Compiled (and kept) when first looked for: most commands load this room and read no failure.
_RESET = (
    r"(?:resets|try again)(?:\s+at)?\s+"
    r"(?:(?P<month>[a-z]{3})[a-z]*\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{4}))?(?:,|\s+at)?\s+)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>[ap])m\b(?:\s+\((?P<zone>[^)]+)\))?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def class_of(message: str, status: int = 0) -> Outcome:
    """What a failure is: by its HTTP status if it has one that tells, else by its message."""
    if status in _STATUS:
        return _STATUS[status]
    if status >= 500:
        return Outcome.UNAVAILABLE
    if status not in (0, 400):  # 404: the server's text is not about the account
        return Outcome.AGENT_ERROR
    return next(
        (outcome for outcome, pattern in _WORDS if re.search(pattern, message, re.IGNORECASE)), Outcome.AGENT_ERROR
    )


def reset_time(message: str, ended_at: float, zone: str = "UTC") -> float | None:
    """When the account may go on, in seconds since the epoch; `zone` where none is named.

    The programs cut seconds off (14:11:42 is "2:11 PM"), so the end of that minute is meant:
    whoever comes at its beginning is refused once more, and spends an attempt on it.
    """
    if epoch := re.search(r"\|(\d{10})\b", message):
        return float(epoch[1])
    match = re.search(_RESET, message, re.IGNORECASE)
    place = _zone((match["zone"] if match else None) or zone)
    if match is None or place is None or not 1 <= int(match["hour"]) <= 12:
        return None
    ended = datetime.fromtimestamp(ended_at, UTC).astimezone(place)
    hour = int(match["hour"]) % 12 + (12 if match["half"].lower() == "p" else 0)
    try:
        moment = ended.replace(hour=hour, minute=int(match["minute"] or 0), second=0, microsecond=0)
        if match["month"]:
            month = _MONTHS.index(match["month"].lower()) + 1
            moment = moment.replace(year=int(match["year"] or ended.year), month=month, day=int(match["day"]))
        moment += timedelta(minutes=1)
        if moment <= ended and not match["month"]:
            moment += timedelta(days=1)
        elif moment <= ended and not match["year"]:
            moment = moment.replace(year=ended.year + 1)
        return moment.timestamp()
    except (ValueError, OverflowError):  # no such day or month
        return None


def _zone(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo  # seldom needed: our runs say UTC

    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not known to this machine
        return None


def one_line(text: str) -> str:
    """A message as one line for a person."""
    return printable(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()), 500)


def complaint(text: str, *noise: str) -> str:
    """The line of standard error that tells why: the first that begins with "error", else the last.

    Lines that begin with `noise` are passed over.
    """
    lines = [one_line(line) for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(noise or ("\0",))]
    return next((line for line in lines if line.lower().startswith("error")), lines[-1] if lines else "")


def signal_of(exit_code: int) -> str:
    """The name of the signal in a shell's 128+n."""
    try:
        return signal.Signals(exit_code - 128).name
    except ValueError:
        return str(exit_code - 128)


def by_status(evidence: Evidence, good: tuple[int, ...]) -> Answer | None:
    """The verdict on a program that has only its exit status to tell of a failure."""
    code = evidence.exit_code
    if code is None:
        return Answer(Outcome.LOST, error="how it ended is not known")
    if code in good:
        return None
    message = last_line(tail_text(evidence.stderr)) or last_line(tail_text(evidence.stdout))
    return Answer(Outcome.AGENT_ERROR, error=f"exit status {code}: {one_line(message) or 'it printed nothing'}")


def without_ending(evidence: Evidence, message: str, *, begun: bool, last_signal: int = LAST_SIGNAL) -> Answer:
    """A run that never said how it ended. `message` is its own last complaint, if it has one.

    Only a run that had not begun to work is judged by the complaint's words: later on,
    standard error may repeat what a tool printed.
    """
    code = evidence.exit_code
    if code is None:
        return Answer(Outcome.LOST, error="it left no final result, and how it ended is not known")
    if code == 0:
        return Answer(Outcome.UNREADABLE, error="exit status 0, but it left no final result")
    if 128 < code <= last_signal:
        return Answer(Outcome.KILLED, error=f"ended by signal {signal_of(code)} before it had a final result")
    outcome = Outcome.AGENT_ERROR if begun else class_of(message)
    retry_at = reset_time(message, evidence.ended_at) if outcome is Outcome.RATE_LIMITED else None
    return Answer(outcome, error=f"exit status {code}: {message or 'no final result'}", retry_at=retry_at)


def wrote_answer(evidence: Evidence) -> bool:
    """Whether the answer is in the file that the prompt names, and not in the last message."""
    try:
        status = os.lstat(f"{evidence.folder}/output.md")
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def after_success(
    evidence: Evidence, text: str, warning: str = "", last_signal: int = LAST_SIGNAL
) -> tuple[Outcome, str]:
    """The verdict on a run whose last word was success, and one line on what is wrong with it.

    A signal after the last word changes nothing: some programs hang then, and we end them.
    """
    code = evidence.exit_code
    if code and not 128 < code <= last_signal:
        return Outcome.AGENT_ERROR, f"exit status {code}, though its last event says success"
    if not text.strip() and not wrote_answer(evidence):
        return Outcome.UNREADABLE, f"it says success, but its answer is empty{warning and f' ({warning})'}"
    return Outcome.SUCCESS, ""
