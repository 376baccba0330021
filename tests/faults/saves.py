"""kill -9 inside a save: at most the steps since the previous save are lost."""

import os
import pathlib
import re
import signal
import threading
import time

from tests.faults import disturbed, jobs, kills, tiny_config
from tests.faults.registry import Outcome, point

INSIDE = ("middle", "before the manifest", "before the rename", "after the rename")
AROUND = ("manifest half written", "scores half written", "while an old step is removed", "log line torn")
DIES = "dies in the save of step "
MOST_FOLDERS = 5  # three steps that stay, one growing, one leaving


def die_in(place, count, delay):
    """Kill this process the `count`-th time that a save reaches `place`; `delay` seconds into it for `middle`."""
    from agegender_jax import files
    from agegender_jax.checkpoint import manifest, step_folders, tree
    from agegender_jax.run.workdir import metrics_log

    left = [count]

    def die(step):
        left[0] -= 1
        if left[0] == 0:
            os.write(2, f"{DIES}{step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def before(module, name, step_of, applies=lambda *args: True):
        original = getattr(module, name)

        def patched(*args, **options):
            if applies(*args):
                die(step_of(*args))
            return original(*args, **options)

        setattr(module, name, patched)

    def after(module, name, step_of):
        original = getattr(module, name)

        def patched(*args):
            original(*args)
            die(step_of(*args))

        setattr(module, name, patched)

    def halve(path, data):
        path.with_name(f".{path.name}.{os.getpid()}.tmp").write_text(str(data)[: len(data) // 2])

    def half_of(name, known):
        original = files.replace

        def patched(path, data):
            if path.name == name and known(path):
                halve(path, data)
                die(path.parent.name.partition(".")[0])
            original(path, data)

        files.replace = patched

    def torn(log, row):
        with open(log.path, "ab") as file:
            file.write(files.to_json(row).encode()[:20])
        die(row["step"])

    def slow_checkpointer():
        orbax = checkpointer()
        save = orbax.save

        def patched(path, nested):
            threading.Thread(target=lambda: (time.sleep(delay), die(path.parent.name.partition(".")[0]))).start()
            save(path, nested)
            time.sleep(2 * delay)

        orbax.save = patched
        return orbax

    if place == "middle":
        checkpointer = tree.checkpointer
        tree.checkpointer = slow_checkpointer
    elif place == "before the manifest":
        before(manifest, "write", lambda growing, step, metrics: step)
    elif place == "before the rename":
        before(step_folders, "swap_in", lambda growing, final: final.name)
    elif place == "after the rename":
        after(step_folders, "swap_in", lambda growing, final: final.name)
    elif place == "manifest half written":
        half_of("manifest.json", lambda path: path.parent.name.endswith(".saving"))
    elif place == "scores half written":
        half_of("manifest.json", lambda path: path.parent.name.isdecimal())
    elif place == "while an old step is removed":
        before(step_folders.shutil, "rmtree", lambda path: max(_steps(path.parent)), _is_leaving)
    elif place == "log line torn":
        append = metrics_log.MetricsLog.append
        metrics_log.MetricsLog.append = lambda log, row: (torn(log, row), append(log, row))


def _is_leaving(path):
    return str(path).endswith(".leaving")


def _steps(checkpoints):
    return [int(path.name) for path in pathlib.Path(checkpoints).iterdir() if path.name.isdecimal()]


def measure(place, trials, rng, folder):
    """Let one start after another die at a place in a save, until `trials` have."""
    setting = disturbed.Setting("ran")
    expected, _ = kills.undisturbed(setting, folder)
    failures, done, runs, lost = [], 0, 0, [0]
    while done < trials:
        workdir, code, saving = folder / f"run{runs}", -signal.SIGKILL, 0
        runs += 1
        while code == -signal.SIGKILL:
            patch = (die_in, place, rng.choice((1, 1, 2)), rng.uniform(0, 0.1)) if done < trials else None
            (child,) = setting.start(folder, workdir.name, patch=patch)
            code = child.wait(jobs.TIMEOUT)
            output, errors = child.outputs()
            resumed = re.search(r"resumed at step (\d+)", output)
            in_the_clean_up = code == -signal.SIGKILL and saving and not resumed  # of the start, before it resumes
            lost.append(0 if in_the_clean_up else saving - int(resumed[1] if resumed else 0))
            if lost[-1] > tiny_config.INTERVAL:
                failures.append(f"before fault {done}: died in the save of {saving}: {output[:300]}")
            if code == -signal.SIGKILL:
                done += 1
                saving = int(errors.partition(DIES)[2].split()[0])
                names = [path.name for path in (workdir / "checkpoints").iterdir()]
                failures += [f"the folder grows: {names}"] if len(names) > MOST_FOLDERS else []
        problems = [errors[-300:]] if code else jobs.differences(workdir, expected)
        problems += [f"{name} is left" for name in disturbed.leftovers(workdir)]
        failures += [f"run {runs}: {', '.join(problems[:6])}"] if problems else []
        if runs > trials:  # each should have died at least once
            failures.append(f"only {done} of {runs} runs died")
            break
    return Outcome(trials, failures, {"runs": runs, "most_steps_lost": max(lost)})


def register(places, name, what, release):
    """Register a point for each place; one after another dies there, as in a crash loop."""
    for place in places:

        def die(trials, rng, folder, place=place):
            return measure(place, trials, rng, folder)

        die.__name__ = name
        point(what, push=0, release=release, variant=place)(die)


register(INSIDE, "inside", "kill -9 inside a save, one start after another: at most one interval is lost", 10)
register(AROUND, "around", "kill -9 around a save, one start after another: at most one interval is lost", 5)
