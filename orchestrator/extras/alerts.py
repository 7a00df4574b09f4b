"""One alert to the desktop, a webhook, or wherever Apprise goes. What and where to: in the environment."""

from __future__ import annotations

import os
import sys

MISSING = "alerts.notify needs Apprise: pip install 'orchestrate-agents[alerts]'"
SCHEMES = {"http": "json", "https": "jsons"}  # a plain webhook gets JSON
DESKTOP = "macosx://" if sys.platform == "darwin" else "dbus://"


def url(where: str) -> str:
    """The Apprise URL of what config.yaml says: `desktop`, a plain webhook, or such a URL already."""
    if where == "desktop":
        return DESKTOP
    scheme, mark, rest = where.partition("://")
    return f"{SCHEMES.get(scheme, scheme)}{mark}{rest}"


def main() -> int:
    """0: sent everywhere."""
    text, places = os.environ["ORCHESTRATE_ALERT"], os.environ["ORCHESTRATE_ALERT_TO"].splitlines()
    try:
        import apprise
    except ImportError:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    failed = 0
    for place in places:
        one = apprise.Apprise()
        if not one.add(url(place)) or not one.notify(title="orchestrate", body=text):
            sys.stderr.write(f"alerts.notify: not sent to {place.partition('://')[0]}\n")  # the rest may hold a key
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
