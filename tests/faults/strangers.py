"""Untrusted workdirs: their JSON names no file that is opened and no module that is imported."""

import json
import sys

import tiny_runs

from agegender_jax import files
from agegender_jax.checkpoint import manifest
from agegender_jax.errors import UserError
from agegender_jax.loading import load_checkpoint
from agegender_jax.prediction.members import from_runs
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.scoring import named_runs, scored_images
from tests.faults.registry import Outcome, point

DEEP = "[" * 100_000
LARGE = 10**12
EVENTS = ("open", "import", "os.listdir", "os.scandir", "os.system", "subprocess.Popen", "exec")


class Watch:
    """Records the opened files and the imported modules whose names hold a mark. Hooks cannot be removed."""

    mark: str | None = None
    seen: list[str] = []

    @classmethod
    def hook(cls, event, arguments):
        if cls.mark and event in EVENTS:
            text = str(arguments[0])
            if cls.mark in text:
                cls.seen.append(f"{event} {text[:100]}")


sys.addaudithook(Watch.hook)


def hostile_configs(config, mark, folder):
    """Yield configs of a run, each with one value that no training writes; some name `folder`/`mark`."""
    place = str(folder / mark)
    for name in (mark, f"{mark}.module:function", f"../../{mark}", place, "", 5, None, ["ran56"], {"a": 1}):
        yield config | {"model": config["model"] | {"name": name}}
    for field, value in (
        ("width", LARGE),
        ("width", "wide"),
        ("width", float("nan")),
        ("age_hidden", LARGE),
        ("age_hidden", -1),
        ("dtype", mark),
        ("stem", place),
        ("elm_hidden", LARGE),
        (mark, place),
        ("gender_to_age", "true"),
    ):
        yield config | {"model": config["model"] | {field: value}}
    for value in (LARGE, 0, -1, "x", None, 1.5, [32]):
        yield config | {"data": config["data"] | {"image_size": value}}
    yield config | {
        "init_from": place,
        "data": config["data"] | dict.fromkeys(("source", "train_on", "exclude", "splits", "cache_dir"), place),
    }
    yield config | {"eval": {"views": mark}}
    yield {}
    yield {"model": None, "data": None}


def evaluated(path):
    """Prepare what launch.evaluate would score."""
    load_dataset(scored_images.data_config(*named_runs.read_runs([str(path)]), None))


SURROGATE = '{"model": {"name": "\\ud800"}}'
TEXTS = ("", "{", "null", "[]", DEEP, '{"model": ' * 50_000, "1" * 10_000, SURROGATE, "\xff", "NaN")


@point("an untrusted config.json: an error; no file is opened, no module imported", push=12, release=120)
def config_json(trials, rng, folder):
    """By `agegender_jax.load`, by what predicts (`from_runs`), and by what evaluates without --source."""
    config = tiny_runs.make_config(folder, 12)
    run = tiny_runs.make_run(folder / "run", config, test=False)
    good = json.loads((run / "config.json").read_text())
    step = next((run / "checkpoints").iterdir())
    failures = []
    for i in range(trials):
        mark = f"mark{i}x"
        values = [*map(files.to_json, hostile_configs(good, mark, folder)), *TEXTS]
        (folder / mark).mkdir()
        text = values[i % len(values)] if trials >= len(values) else rng.choice(values)
        (run / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        (step / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        manifest.write(step, int(step.name), None)
        for load in (load_checkpoint, lambda path: from_runs([path]), evaluated):
            Watch.mark, Watch.seen = mark, []
            try:
                load(run)
            except UserError:
                pass
            except Exception as error:
                failures.append(f"trial {i}, {text[:80]!r}: {type(error).__name__} {error}"[:300])
            finally:
                Watch.mark = None
            failures += [f"trial {i}: {seen}" for seen in Watch.seen]
    return Outcome(trials, failures)


@point("other files of an untrusted workdir, with outside paths or deep JSON: an error", push=6, release=40)
def other_files(trials, rng, folder):
    """calibration.json, answers.json, run.json, splits.csv, and manifests that list files elsewhere."""
    config = tiny_runs.make_config(folder, 12)
    run = tiny_runs.make_run(folder / "run", config, test=False)
    step = next((run / "checkpoints").iterdir())
    record = json.loads((step / manifest.NAME).read_text())
    secret = folder / "mark0x"
    secret.write_text("secret")

    def listed(name):
        return files.to_json(files.seal({**record, "files": {name: {"size": 6, "sha256": "0" * 64}}}))

    manifests = [listed(name) for name in ("../../../mark0x", str(secret), "/dev/zero", "a/../../../../mark0x")]
    numbers = {"age_temperature": LARGE, "gender_temperature": "x", "bucket_years": "y" * 12, "step": [1]}
    tables = ["a,b\n1,2\n", "\0", 'file,split\n"', "dhash,split,thumbnail\nzz,train,1\n", "=1\n"]
    cases = [("manifest", text) for text in (*manifests, *TEXTS)]
    texts = (*TEXTS, files.to_json(numbers), '{"ensembles": []}', '{"ensembles": {"run": 5}}')
    cases += [(name, text) for name in ("calibration.json", "answers.json", "run.json") for text in texts]
    cases += [("splits.csv", text) for text in tables]
    failures = []
    for i in range(trials):
        name, text = cases[i % len(cases)] if trials >= len(cases) else rng.choice(cases)
        path = step / manifest.NAME if name == "manifest" else run / name
        earlier = path.read_bytes() if path.exists() else None
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        Watch.mark, Watch.seen = "mark0x", []
        try:
            from_runs([run])
            if name == "manifest":
                failures.append(f"trial {i}: loaded with the manifest {text[:80]!r}")
        except UserError:
            pass
        except Exception as error:
            failures.append(f"trial {i}, {name} {text[:80]!r}: {type(error).__name__} {error}"[:300])
        finally:
            Watch.mark = None
        failures += [f"trial {i}: {seen}" for seen in Watch.seen]
        if earlier is None:
            path.unlink()
        else:
            path.write_bytes(earlier)
    return Outcome(trials, failures)
