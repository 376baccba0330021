"""The fault campaign: what goes wrong around a run and with its files, done on purpose (registry.py, campaign.py)."""

import pathlib
import sys

TESTS = str(pathlib.Path(__file__).parents[1])
if TESTS not in sys.path:  # the helpers in tests/ import each other by their plain names
    sys.path.insert(0, TESTS)
