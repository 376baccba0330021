"""Two writers of one workdir, and locks that dead processes or other file systems leave."""

import json
import socket

from agegender_jax.run.workdir import Workdir
from tests.faults.registry import Outcome, point

DEAD = 2**22 + 1  # above the largest process number


@point("a LOCK file left by a dead process: the next run takes it over", push=5, release=20)
def stale(trials, rng, folder):
    failures = []
    for i in range(trials):
        path = folder / str(i)
        path.mkdir()
        content = {"pid": rng.choice((1, DEAD)), "host": rng.choice((socket.gethostname(), "another"))}
        text = json.dumps(content)
        (path / "LOCK").write_text(text[: rng.randint(0, len(text))])
        try:
            with Workdir(path):
                pass
        except Exception as error:
            failures.append(f"trial {i}: {text}: {error}")
    return Outcome(trials, failures)
