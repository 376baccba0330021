"""The training job: prepares the data, trains, evaluates, saves, resumes, and tests the best at the end.

With several processes each one takes its share of every batch; process 0 alone holds the workdir and speaks.
"""

import contextlib
import functools
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import data, ensemble, metrics, optim, parallel, training
from agegender_jax.checkpoint import Checkpoints, initial
from agegender_jax.data.augment import augment
from agegender_jax.errors import Stopped
from agegender_jax.run import checks, facts, final, inputs, leaks, outcome, processes
from agegender_jax.run.logs import MetricsLog, TensorBoard
from agegender_jax.run.progress import Progress
from agegender_jax.run.signals import StopFlag
from agegender_jax.run.workdir import Workdir, write_csv

WAIT_EVERY = 4  # steps in flight at most, so that batches do not pile up on the device


def fit(
    config: ConfigDict,
    workdir: str,
    command: list[str],
    progress: Progress | None = None,
    stop: StopFlag | None = None,
) -> None:
    """Trains `config` in `workdir`, or goes on where the same command stopped.

    Args:
      progress: is told what happens.
      stop: the entered flag of a job with several runs, which then asks it between them; None for one of its own.

    Raises:
      UserError: of the kind that interfaces and exit codes name.
      Stopped: after a signal, with everything saved.
      ToldElsewhere, Alone: with several processes, as `processes.one_voice` says.
    """
    config_lib.validate(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.one_voice())
        checks.even_devices()
        processes.meet()
        first, place, resuming = processes.is_first(), Workdir(workdir), False
        with processes.together():
            checks.same_config_everywhere(config)
        with processes.together():
            outcome.build_model(config.to_dict())  # before anything is prepared: has the net these options?
            checks.devices(config)
            checks.feed(config)
            if first:
                stack.enter_context(place)
                resuming = checks.same_run(place, config)
        stop = stop or stack.enter_context(StopFlag())
        progress = stack.enter_context(progress or Progress(silent=not first))
        with processes.together():
            on_bad = functools.partial(list_bad, place) if first else lambda bad: str(place.bad_images)
            faces = inputs.load(config, progress.prepare, on_bad)
            inputs.check_batch(faces, config)
            if first:
                checks.same_data(place, faces)
        with processes.together():
            checks.same_data_everywhere(faces)
        job = Training(config, place, faces, progress, stop)
        with processes.together():
            leaves = job.begin(command) if first else {}
        job.run(resuming, leaves)


def list_bad(place: Workdir, bad: list[tuple[str, str]]) -> str:
    """Writes bad_images.csv before an error says that there are too many; its path."""
    write_csv(place.bad_images, ("file", "reason"), bad)
    return str(place.bad_images)


class Training:
    """One run: what the steps need, bound once."""

    def __init__(self, config, place, faces, progress, stop):
        self.config, self.place, self.faces = config, place, faces
        self.progress, self.stop, self.first = progress, stop, processes.is_first()
        self.steps_per_epoch = len(faces.indices("train")) // config.batch_size
        self.num_steps = config.num_steps or config.num_epochs * self.steps_per_epoch
        self.eval_every = config.eval.every_epochs * self.steps_per_epoch
        self.tx = optim.build(config.optimizer, self.num_steps)
        self.rate = optim.schedule(config.optimizer, self.num_steps)
        self.model = outcome.build_model(config.to_dict(), axis_name=parallel.AXIS)
        self.eval_model = outcome.build_model(config.to_dict())
        self.driver = make_driver(config, self.model, self.tx)
        self.checkpoints = Checkpoints(place.checkpoints, notice=progress.note)
        self.log = MetricsLog(place.metrics)
        self.init = functools.partial(
            training.init_state,
            self.model,
            self.tx,
            jax.random.key(config.seed),
            config.data.image_size,
            ema=config.optimizer.ema > 0,
        )

    def begin(self, command: list[str]) -> dict[str, np.ndarray]:
        """Writes what is known before the first step; gives the weights to start from."""
        place, faces = self.place, self.faces
        leaves = self.initial_leaves()
        place.write_config(config_lib.to_dict(self.config))
        place.write_run(command, faces.prepared.name, faces.prepared.fingerprint)
        place.write_faces(faces.prepared, faces.assignment)
        if bad := len(faces.prepared.bad):
            total = bad + len(faces.assignment)
            self.progress.note(f"{bad} of {total} files are unusable: {place.bad_images} lists them")
        return leaves

    def initial_leaves(self) -> dict[str, np.ndarray]:
        """The weights that `init_from` names, for a run that has saved nothing yet; notes what they have seen."""
        source = self.config.init_from
        if self.checkpoints.steps():
            return {}
        self.place.inherited.unlink(missing_ok=True)  # of a start that never trained
        if not source:
            return {}
        state = jax.eval_shape(self.init)
        shapes = {"params": state.params, "batch_stats": state.batch_stats}
        leaves = initial.load(source, shapes, self.progress.note)
        leaks.inherit(self.place, source)
        return leaves

    def run(self, resuming: bool, leaves: dict[str, np.ndarray]) -> None:
        with processes.together():
            state = self.initial_state(resuming, leaves) if self.first else processes.zeros(jax.eval_shape(self.init))
        state = processes.broadcast(state)
        start = int(state.step)
        results, fitted = self.place.results, self.place.calibration
        if processes.of_first(start >= self.num_steps and results.exists() and fitted.exists()):
            self.progress.note(f"already finished at step {start}; results in {results}")
            if self.first and not self.place.card.exists():  # a run of before the cards
                facts.write_card(self.place)
            return
        with processes.together():
            if self.first:
                self.log.truncate_after(start)
                for path in (results, fitted):  # a shorter run's; without them the test is still to be done
                    path.unlink(missing_ok=True)
                self.board = TensorBoard(self.place.path, start)
        try:
            if start < self.num_steps:
                self.train(self.driver.replicate(state), start)
            else:
                self.progress.note(f"trained to step {start} already; calibration and test are made anew")
            with processes.together():
                self.checkpoints.finish()
            final.test(self.place, self.faces, self.config.init_from, self.config.log.figures, self.progress)
        finally:
            if self.first:
                self.board.close()
            self.checkpoints.close()

    def initial_state(self, resuming: bool, leaves: dict[str, np.ndarray]):
        """The newest good checkpoint, or step 0 from the seed and `leaves`."""
        restored = self.checkpoints.restore_latest(jax.eval_shape(self.init)) if resuming else None
        if restored is not None:
            self.progress.note(f"resumed at step {restored[1]} of {self.num_steps}")
            return restored[0]
        state = self.init()
        if not leaves:
            return state
        filled = initial.fill({"params": state.params, "batch_stats": state.batch_stats}, leaves)
        ema = None if state.ema is None else jax.tree.map(jax.numpy.copy, filled["params"])
        return state.replace(**filled, ema=ema)

    def train(self, state, start: int) -> None:
        with processes.together():
            batches = self.faces.train_batches(self.config, start, self.num_steps, self.progress.prepare)
        self.progress.start(start, self.num_steps, self.steps_per_epoch)
        self.restart_clock(start)
        batch = self.next_batch(batches)
        for step in range(start + 1, self.num_steps + 1):
            state = self.driver.step(state, batch)
            self.progress.step(step)
            batch = self.next_batch(batches)  # read and copied to the devices while the step runs
            if step % WAIT_EVERY == 0:
                jax.block_until_ready(state.step)
            state = self.after(step, state)

    def next_batch(self, batches):
        """The next batch, split over the devices; None after the last."""
        before = time.perf_counter()
        batch = next(batches, None)
        self.waited += time.perf_counter() - before
        return None if batch is None else self.driver.split(batch)

    def after(self, step: int, state):
        """What is due after a step: log, evaluate, save, stop. Returns the state to go on with."""
        config, last = self.config, step == self.num_steps
        evaluating = last or step % self.eval_every == 0
        if evaluating or step % config.log.every_steps == 0:
            state = self.log_training(step, state)
        stopping = self.stopping(step)
        if evaluating or stopping or step % config.checkpoint.every_steps == 0:
            saved = self.driver.fetch(state)
            checks.finite(step, (saved.params, saved.batch_stats, saved.ema, saved.sums))
            scores = self.evaluate(step, saved) if evaluating else None
            with processes.together():
                self.checkpoints.save(step, saved, config_lib.to_dict(config), scores)
            self.restart_clock(step) if evaluating else None
        if stopping and not last:
            with processes.together():
                self.checkpoints.finish()
            raise Stopped(stopping, step)
        return state

    def stopping(self, step: int) -> int:
        """The exit code of a signal that any process has received, else 0; a save that failed is an error.

        Several processes ask each other where they wait for the devices anyhow.
        """
        if jax.process_count() > 1 and step % WAIT_EVERY:
            return 0
        with processes.together() as agreed:
            self.checkpoints.poll()
            agreed.value = self.stop.code or 0
        return agreed.value

    def restart_clock(self, step: int) -> None:
        self.clock, self.clock_step, self.waited = time.perf_counter(), step, 0.0

    def log_training(self, step: int, state):
        """Writes the means since the last train line; the sums start again at zero."""
        sums = {name: float(value) for name, value in self.driver.fetch(state).sums.items()}
        checks.finite(step, sums)
        count = sums.pop("steps")
        elapsed = max(time.perf_counter() - self.clock, 1e-9)
        row = {
            "step": step,
            "epoch": round(step / self.steps_per_epoch, 3),
            "split": "train",
            **{name: value / count for name, value in sums.items()},
            "lr": float(self.rate(step - 1)),
            "images_per_second": round((step - self.clock_step) * self.config.batch_size / elapsed, 1),
            "data_wait": round(self.waited / elapsed, 4),
        }
        self.write(row)
        self.restart_clock(step)
        return state.replace(sums=self.driver.replicate(training.zero_sums()))

    def evaluate(self, step: int, state) -> dict | None:
        """Scores of a fetched state on val, one line in the log; None where val is empty."""
        age, gender = self.faces.targets("val")
        if not len(gender):
            return None
        variables = {"params": state.params if state.ema is None else state.ema, "batch_stats": state.batch_stats}
        variables = jax.device_put(jax.tree.map(np.asarray, variables), jax.local_devices()[0])
        batches = self.faces.eval_batches("val", self.config.data.image_size, self.config.eval.batch_size)
        probs = ensemble.predict_all(self.eval_model, variables, batches, devices=jax.devices(), allow_control=True)
        scores = metrics.losses(probs.age, probs.gender, age, gender) | ensemble.evaluate([probs], age, gender)
        checks.finite(step, [scores["loss"]])
        collapsed = metrics.collapsed(probs.age, probs.gender, age, gender, half_done=2 * step >= self.num_steps)
        self.write(
            {
                "step": step,
                "epoch": round(step / self.steps_per_epoch, 3),
                "split": "val",
                **scores,
                "collapsed": collapsed,
            }
        )
        for head in collapsed:
            self.progress.warn(f"the {head} head has collapsed: it tells the classes apart no better than a constant")
        return scores | {"val_loss": self.val_loss(scores), "collapsed": collapsed}

    def val_loss(self, scores: dict) -> float:
        """What chooses the best step: the cross-entropies of the heads that are trained, unweighted."""
        weights = self.config.loss.age_weight, self.config.loss.gender_weight
        losses = scores["loss_age"], scores["loss_gender"]
        return sum(loss for loss, weight in zip(losses, weights, strict=True) if weight)

    def write(self, row: dict) -> None:
        if self.first:
            self.log.append(row)
            self.board.append(row)
        self.progress.row(row)


def make_driver(config: ConfigDict, model, tx, devices=None):
    """The compiled step that training runs for `config`, in its driver."""

    def prepare_images(keys, images):
        return data.normalize(augment(keys, images, config.augment))

    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.fold_in(jax.random.key(config.seed), 1),
        prepare_images=prepare_images,
        age_weight=config.loss.age_weight,
        gender_weight=config.loss.gender_weight,
        label_smoothing=config.loss.label_smoothing,
        ema_decay=config.optimizer.ema,
    )
    return parallel.driver(config.parallel, step, devices)
