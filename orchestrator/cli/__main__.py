"""`python -m orchestrator.cli`: the command without its entry point."""

import sys

from orchestrator.cli import main

sys.exit(main())
