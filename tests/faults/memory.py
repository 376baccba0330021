"""Long runs: memory, file handles, threads and compiled programs do not grow."""

import gc
import os
import pathlib
import threading

import drawn_photos
import numpy as np

from tests.faults import in_process, jobs
from tests.faults.registry import Outcome, point

WARM = 0.25  # share of the steps before which nothing is compared
LIMIT = 1.0  # MB in 100 steps
COUNTS = "handles", "threads", "shared", "compiled"
PICTURES = 8  # different ones of a folder of many


def resident():
    """Return the memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def shared():
    """Return the number of this process's mappings of shared memory."""
    with open("/proc/self/maps") as file:
        return sum("/dev/shm/" in line for line in file)


class Samples:
    """Memory, handles, threads, shared memory and compilations at chosen moments."""

    def __init__(self):
        from jax import monitoring

        self.rows, self.compiled = [], 0
        monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event, seconds, **details):
        self.compiled += event.endswith("backend_compile_duration")

    def take(self, step):
        gc.collect()
        counts = len(os.listdir("/proc/self/fd")), threading.active_count(), shared(), self.compiled
        self.rows.append((step, resident(), *counts))

    def summary(self):
        """Return the slope of the memory, and the change of each count, after the warm-up."""
        rows = np.array(self.rows)
        rows = rows[rows[:, 0] >= WARM * rows[-1, 0]]
        slope = np.polyfit(rows[:, 0], rows[:, 1], 1)[0] * 100
        first, last = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        grown = {name: int(last[:, i].max() - first[:, i].max()) for i, name in enumerate(COUNTS, 2)}
        column = 2 + COUNTS.index("handles")  # threads read files at any moment: the fewest that are open
        grown["handles"] = int(last[len(last) // 2 :, column].min() - first[:, column].min())
        return {"mb_in_100": round(float(slope), 3), "mb_at_the_end": round(rows[-1, 1])} | grown


def train(folder, steps):
    from agegender_jax.run.host.progress import Progress

    samples, step_of = Samples(), Progress.step

    def step(progress, number):
        step_of(progress, number)
        if number % (steps // 40) == 0:
            samples.take(number)

    Progress.step = step
    fits = in_process.Fits(folder, num_steps=steps, log__every_steps=50, checkpoint__every_steps=steps // 10)
    fits.run("run", eval__every_epochs=steps // 20 // 6)
    return samples.summary()


def predict(folder, count):
    from agegender_jax import Predictor

    fits = in_process.Fits(folder, test=True, num_steps=6)
    path = fits.run("run")
    predictor, samples = Predictor(str(path), detector="none", batch_size=1), Samples()
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for number in range(1, count + 1):
        predictor(image)
        if number % (count // 40) == 0:
            samples.take(number)
    return samples.summary()


def predict_folder(folder, count):
    """Predict for the faces that the detector finds in `count` pictures of one folder."""
    import small_weights

    from agegender_jax import weights
    from agegender_jax.run import predict as command
    from agegender_jax.run.pictures import jsonl_csv_rows

    path = pathlib.Path(folder)
    for name in ("photos", "weights"):
        (path / name).mkdir()
    weights.FOLDER = small_weights.write(path / "weights")
    for i in range(count):
        photo = path / "photos" / f"{i:05}.png"
        if i < PICTURES:
            photo.write_bytes(drawn_photos.encode(drawn_photos.face(2 + i, 96)))
        else:
            os.link(path / "photos" / f"{i % PICTURES:05}.png", photo)
    samples, write, done = Samples(), jsonl_csv_rows.RowFiles.write, [0]

    def counted(rows, new):
        write(rows, new)
        done[0] += 1
        if done[0] % (count // 40) == 0:
            samples.take(done[0])

    jsonl_csv_rows.RowFiles.write = counted
    summary = command.predict([str(path / "photos")], workdirs=[], out=str(path / "out"))
    return samples.summary() | {"statuses": summary["statuses"]}


def judge(trials, figures):
    failures = [f"{figures['mb_in_100']} MB in 100"] if figures["mb_in_100"] >= LIMIT else []
    failures += [f"{figures[name]} more {name}" for name in COUNTS if figures[name] > 0]
    return Outcome(trials, failures, figures)


@point("steps of a run with 20 evaluations and 10 saves: below 1 MB per 100; handles and programs constant", 0, 2000)
def training(trials, rng, folder):
    return judge(trials, jobs.call(train, str(folder), trials))


@point("predictions of one picture each: below 1 MB per 100; handles and programs constant", 0, 2000)
def predicting(trials, rng, folder):
    return judge(trials, jobs.call(predict, str(folder), trials))


@point("pictures of one folder, their faces detected: below 1 MB per 100; handles and programs constant", 0, 5000)
def folder_of_pictures(trials, rng, folder):
    figures = jobs.call(predict_folder, str(folder), trials)
    outcome = judge(trials, figures)
    pictures = figures["statuses"].get("ok", 0) + figures["statuses"].get("unsure", 0)
    outcome.failures += [] if pictures == trials else [f"a face in {pictures} pictures"]
    return outcome
