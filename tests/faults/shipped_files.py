"""Flipped bits in calibrations, weights, exports and the cache of compiled programs: no prediction differs."""

import hashlib
import json
import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
import small_weights
from safetensors.numpy import load_file

from agegender_jax import files, weights
from agegender_jax.errors import CheckpointError
from agegender_jax.export import formats, loaders
from agegender_jax.prediction import members
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run import export, photo_calibration
from agegender_jax.run.workdir import Workdir, calibration
from tests.faults import damage
from tests.faults.registry import Outcome, point

CALIBRATION = {
    "age_temperature": 1.2345678901234567,
    "gender_temperature": 0.8765432109876543,
    "n": 400,
    "step": 60,
    "bucket_years": [10 * i + 4.25 for i in range(12)],
}


def flips(trials, rng, paths, read, same):
    """Flip a bit of a file in each trial, of all files in turn; `read` returns what is used, or raises UserError."""
    failures, errors, good = [], 0, read()
    for i in range(trials):
        path = paths[i % len(paths)]
        with damage.content(path, damage.flip(path.read_bytes(), rng)):
            try:
                if not same(read(), good):
                    failures.append(f"trial {i}: {path.name} differs without a word")
            except CheckpointError:
                errors += 1
            except Exception as error:
                failures.append(f"trial {i}: {path.name}: {type(error).__name__} {error}")
    return Outcome(trials, failures, {"errors": errors, "harmless": trials - errors - len(failures)})


@point("one flipped bit in calibration.json or answers.json: an error, or the same numbers", push=40, release=500)
def calibrations(trials, rng, folder):
    run = Workdir(folder)
    calibration.write(run, CALIBRATION)
    (folder / "weights").mkdir()
    fitted = weights.card("default", small_weights.write(folder / "weights")).calibration
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_calibration, "checkpoint_digest", lambda path, step: f"{step:064}")
        member = types.SimpleNamespace(step=60, temperatures=(1.5, 0.75), views="flip")
        photo_calibration.write(run, [member], fitted, [str(folder)])

    def read():
        return (
            calibration.read(run),
            members._read(run.path / members.CALIBRATION),
            members._read(run.path / members.ANSWERS),
        )

    def same(read, good):
        return all(
            part.get(key) == value
            for part, part_good in zip(read, good, strict=True)
            for key, value in part_good.items()
            if key != files.DIGEST
        )

    return flips(trials, rng, [run.calibration, run.path / members.ANSWERS], read, same)


@point("one flipped bit in weights and cards, shipped or exported: an error, or the same net", push=30, release=500)
def weight_files(trials, rng, folder):
    place = small_weights.write(folder)

    def read():
        cards = [weights.card(name, place) for name in ("default", "one", "two")]
        used = [(c.members, c.calibration, c.config, c.sha256, c.temperatures, c.chip_size) for c in cards]
        nets = [weights.load(card, place) for card in cards[1:]]
        return used, [model for model, _ in nets], [variables for _, variables in nets]

    def same(a, b):
        return a[:2] == b[:2] and not _differs(a[2], b[2])

    paths = sorted(path for path in place.iterdir() if path.suffix in (".json", ".safetensors"))
    return flips(trials, rng, paths, read, same)


def _differs(a, b):
    return any(
        (np.asarray(x) != np.asarray(y)).any() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@point(
    "untrusted weights: hostile headers, deep JSON, pickles: an error",
    push=6,
    release=6,
)
def impossible_weights(trials, rng, folder):
    place = small_weights.write(folder)
    card = json.loads((place / "one.json").read_text())
    arrays = load_file(place / "one.safetensors")
    name = next(iter(arrays))
    header = json.dumps({name: {"dtype": "F16", "shape": [2**40], "data_offsets": [0, 2**41]}}).encode()
    deep = b"[" * 100_000
    contents = {
        "a header longer than the file": (2**40).to_bytes(8, "little") + b"{}",
        "an array longer than the file": len(header).to_bytes(8, "little") + header,
        "deep JSON": len(deep).to_bytes(8, "little") + deep,
        "a pickle": b"\x80\x04cos\nsystem\n(S'touch pickled'\ntR.",
        "nothing": b"",
        "a zip": b"PK\3\4" + bytes(64),
    }
    failures = []
    for kind, content in list(contents.items())[:trials]:
        (place / "one.safetensors").write_bytes(content)
        fitting = card | {"sha256": hashlib.sha256(content).hexdigest()}
        (place / "one.json").write_text(json.dumps(files.seal({k: v for k, v in fitting.items() if k != files.DIGEST})))
        try:
            weights.load(weights.card("one", place), place)
            failures.append(f"{kind}: loaded")
        except CheckpointError:
            pass
        except Exception as error:
            failures.append(f"{kind}: {type(error).__name__} {error}")
    return Outcome(min(trials, len(contents)), failures)


@point("one flipped bit in an export, its card or its digest: an error, or the same numbers", push=0, release=300)
def exports(trials, rng, folder):
    """The programs run in this process: what they import is imported once."""
    (folder / "weights").mkdir()
    predictor = Predictor(weights="default", weights_dir=small_weights.write(folder / "weights"))
    images = export.drawn_faces(small_weights.SIZE, 2)
    np.save(folder / "images.npy", images)
    loaded = {kind: export._write(kind, predictor, folder, formats.PLATFORMS[:1]) for kind in export.FORMATS}
    expected, failures, errors = predictor.probs({small_weights.SIZE: images}), [], 0
    good = {kind: run_export(kind, path, folder) for kind, path in loaded.items()}
    for kind, arrays in good.items():
        if np.abs(arrays["age"] - expected.age).max() > 1e-5:
            failures.append(f"{kind}: other numbers")
    files_of = {kind: [path, path.with_name(f"{path.name}.sha256")] for kind, path in loaded.items()}
    files_of["safetensors"] = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
    cases = [(kind, path) for kind, paths in files_of.items() for path in paths]
    for i in range(trials):
        kind, path = cases[i % len(cases)]
        with damage.content(path, damage.flip(path.read_bytes(), rng)):
            try:
                arrays = run_export(kind, loaded[kind], folder)
                same = all((arrays[head] == good[kind][head]).all() for head in ("age", "gender"))
                failures += [] if same else [f"trial {i}: {path.name} differs without a word"]
            except SystemExit as error:
                errors += 1
                failures += [] if "is damaged" in str(error.code) else [f"trial {i}: {path.name}: {error.code}"]
            except CheckpointError:
                errors += 1
            except Exception as error:
                failures.append(f"trial {i}: {path.name}: {type(error).__name__} {error}"[:300])
    return Outcome(trials, failures, {"files": len(cases), "errors": errors})


def run_export(kind, path, folder):
    """Return the probabilities of an exported file, by the program beside it."""
    out, program = folder / "out.npz", folder / loaders.name(kind)
    code = compile(program.read_text(), str(program), "exec")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(program), str(path), str(folder / "images.npy"), str(out)])
        exec(code, {"__name__": "__main__"})
    with np.load(out) as arrays:
        return dict(arrays)


FLIPS = """
import os, pathlib, random, sys, warnings
sys.path.insert(0, os.getcwd())
from agegender_jax.cli import app
app.import_jax()
import jax, jax.numpy as jnp, numpy as np
from tests.faults import damage

folder, trials = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]), int(sys.argv[1])
rng, x = random.Random(0), np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)

def run():
    jax.clear_caches()
    return np.asarray(jax.jit(lambda x: jnp.sin(x @ x) * 3 + jnp.tanh(x))(x))

expected = run()
paths = [path for path in folder.iterdir() if path.name.endswith("-cache")]
for i in range(trials):
    path = rng.choice(paths)
    good = path.read_bytes()
    with damage.content(path, damage.flip(good, rng)), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        same = (run() == expected).all()
    print("made again" if same and caught else "harmless" if same else "other numbers")
"""


@point(
    "one flipped bit in the cache of compiled programs: compiled again, the same numbers",
    push=10,
    release=500,
)
def compiled(trials, rng, folder):
    """In a process of its own, which a damaged program might end."""
    (folder / "modules").mkdir()
    (folder / "modules" / "zstandard.py").write_text("")  # whose programs have no checksum must not be used
    env = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "PYTHONPATH": str(folder / "modules")}
    env["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    done = subprocess.run([sys.executable, "-c", FLIPS, str(trials)], env=env, capture_output=True, text=True)
    lines = done.stdout.split("\n")[:-1]
    failures = [f"trial {i}: {line}" for i, line in enumerate(lines) if line == "other numbers"]
    if done.returncode or len(lines) != trials:
        failures.append(f"the process ends after {len(lines)} flips with {done.returncode}: {done.stderr[-300:]}")
    return Outcome(trials, failures, {"made_again": lines.count("made again"), "harmless": lines.count("harmless")})
