"""Mistakes in flags and config files: exit 2 with the promised words, within 3 s and without jax."""

import resource

import programs
import test_flags

from tests.faults.registry import Outcome, point

LONGEST = 3.0  # CPU seconds
OF_A_NET = "  where: --config.model"  # of a mistake that only a net knows, which needs jax's import


def arguments(folder):
    """Yield the arguments of each mistake and the words that its message must have."""
    yield from test_flags.BAD_ARGUMENTS
    for i, (text, *words) in enumerate(test_flags.BAD_FILES):
        path = folder / f"wrong{i}.py"
        path.write_text(text)
        yield [f"--config={path}"], [*words, str(path)]
    yield [f"--config={folder}"], [str(folder)]
    yield ["--config=/dev/null"], ["get_config"]


@point(
    "mistakes in flags and config files: exit 2, the promised words, within 3 s, no import of jax", push=0, release=29
)
def golden(trials, rng, folder):
    failures, slowest, done_trials = [], 0.0, 0
    for options, words in list(arguments(folder))[:trials]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = programs.start("train", *options, python=("-X", "importtime"))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        slowest, done_trials = max(slowest, seconds), done_trials + 1
        lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
        wrong = [f"exit {done.returncode}"] if done.returncode != 2 else []
        wrong += ["not three lines"] if [line.split()[0] for line in lines] != ["error:", "where:", "fix:"] else []
        wrong += [f"no word of {word!r}" for word in words if word not in "".join(f"{line}\n" for line in lines)]
        known = OF_A_NET in lines or not modules & {"jax", "tensorflow_datasets"}
        wrong += [] if known else ["jax is imported"]
        wrong += [f"{seconds:.1f} s"] if seconds > LONGEST else []
        failures += [f"{ascii(options)}: {', '.join(wrong)}: {lines}"] if wrong else []
    return Outcome(done_trials, failures, {"slowest_cpu_s": round(slowest, 1)})
