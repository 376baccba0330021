"""The changes of the mutation run: a file, a text that occurs once in it, what replaces it, and the tests to run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Change:
    """One small mistake.

    Attributes:
      name: what goes wrong, unique.
      file: path from the root of the repository.
      old: text that occurs exactly once in the file. new: its replacement.
      tests: "FILE", of tests/, without .py, or "FILE KEYWORDS" with an expression for pytest's -k; the quickest first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, text: str) -> str:
        """Return the text of the file with the mistake.

        Raises:
          ValueError: `old` does not occur exactly once.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.file} holds {self.old!r} {count} times, not once")
        return text.replace(self.old, self.new)


def _changes(file: str, tests: tuple[str, ...], *rows: tuple[str, str, str]) -> tuple[Change, ...]:
    return tuple(Change(name, file, old, new, tests) for name, old, new in rows)


STEP = (
    "test_step_loss",
    "test_random_keys",
    "test_ema",
    "test_regularisation",
    "test_accumulation",
    "test_parallel not two_processes",
    "test_learning",
)
CHANGES: tuple[Change, ...] = (
    *_changes(
        "agegender_jax/objective.py",
        STEP,
        ("age weight for both heads", "+ gender_weight * loss_gender", "+ age_weight * loss_gender"),
        (
            "gender loss left out",
            "return age_weight * loss_age + gender_weight * loss_gender",
            "return age_weight * loss_age",
        ),
        (
            "smoothing of the gender head left out",
            "losses.gender_loss(logits[1], gender, smoothing)",
            "losses.gender_loss(logits[1], gender)",
        ),
        ("mixup with the own labels alone", "jax.tree.map(augment.swap_neighbours, labels)", "labels"),
    ),
    *_changes(
        "agegender_jax/training.py",
        STEP,
        ("one key for all steps", "step_key = jax.random.fold_in(key, step)", "step_key = key"),
        ("one key for all examples", "lambda i: jax.random.fold_in(step_key, i)", "lambda i: step_key"),
        (
            "keys by place on the device",
            "place = lax.axis_index(axis) * size + jnp.arange(size)",
            "place = jnp.arange(size)",
        ),
        ("dropout equal on all devices", "fold_in(step_key, -1 - lax.axis_index(axis))", "fold_in(step_key, -1)"),
        ("images not prepared", "images = prepare_images(keys, batch.image)", "images = batch.image / 255.0"),
        (
            "black images",
            "images = prepare_images(keys, batch.image)",
            "images = 0 * prepare_images(keys, batch.image)",
        ),
        ("gradients not averaged", "grads, seen = lax.pmean((grads, seen), axis)", "seen = lax.pmean(seen, axis)"),
        (
            "gradients summed",
            "grads, seen = lax.pmean((grads, seen), axis)",
            "grads, seen = lax.psum(grads, axis), lax.pmean(seen, axis)",
        ),
        ("evaluation mode in training", 'options = {"train": True,', 'options = {"train": False,'),
        (
            "statistics of BatchNorm not kept",
            'return loss, (updated.get("batch_stats", {}), seen)',
            "return loss, (batch_stats, seen)",
        ),
        (
            "average of the parameters alone",
            "optax.incremental_update(variables, state.ema, 1 - decay)",
            'optax.incremental_update(variables | {"batch_stats": state.ema["batch_stats"]}, state.ema, 1 - decay)',
        ),
        (
            "average without warm-up",
            "decay = jnp.minimum(upper, (1 + state.step) / (10 + state.step))",
            "decay = upper",
        ),
        (
            "average lags a step",
            '_moved_average(state, {"params": params,',
            '_moved_average(state, {"params": state.params,',
        ),
        ("evaluation ignores the average", "if state.ema is None else state.ema", "if True else state.ema"),
        ("step not counted", "step=state.step + 1", "step=state.step + 0"),
        (
            "accumulated gradients summed",
            "grads, seen = jax.tree.map(lambda x: x / count, total)",
            "grads, seen = total",
        ),
        (
            "update added twice",
            "params = optax.apply_updates(state.params, updates)",
            "params = optax.apply_updates(optax.apply_updates(state.params, updates), updates)",
        ),
    ),
    *_changes(
        "agegender_jax/parallel.py",
        ("test_step_loss", "test_parallel not two_processes", "test_processes two_processes"),
        (
            "replicated arrays on one device",
            "return jax.device_put(tree, self._replicated)",
            "return jax.device_put(tree, jax.devices()[0])",
        ),
        (
            "every device computes the whole batch",
            "in_specs=(PartitionSpec(), PartitionSpec(AXIS))",
            "in_specs=(PartitionSpec(), PartitionSpec())",
        ),
        (
            "shard_map alone on all devices",
            "super().__init__(devices)\n        # check_vma",
            "super().__init__(jax.devices())\n        # check_vma",
        ),
        (
            "parts for pmap in another order",
            "x.reshape(count, -1, *x.shape[1:])",
            "x[::-1].reshape(count, -1, *x.shape[1:])",
        ),
    ),
    *_changes(
        "agegender_jax/optim.py",
        ("test_optim",),
        (
            "warm-up over twice the share",
            "warmup = round(config.warmup * num_steps)",
            "warmup = round(2 * config.warmup * num_steps)",
        ),
        ("no final rate", "end_value=config.lr * config.final", "end_value=0.0"),
        ("constant rate ignored", 'if config.schedule == "constant":', 'if config.schedule == "fixed":'),
        ("half of the peak", "peak_value=config.lr,", "peak_value=config.lr / 2,"),
        ("clipping amplifies", "limit / jnp.maximum(optax.tree.norm(grads), limit)", "limit / optax.tree.norm(grads)"),
        ("weight decay on everything", "leaf.ndim > 1", "leaf.ndim > 0"),
        ("frozen groups one too many", "float(g >= config.freeze)", "float(g > config.freeze)"),
        ("layer decay the other way", "config.layer_decay ** (HEADS - g)", "config.layer_decay ** g"),
    ),
    *_changes(
        "agegender_jax/data/augment.py",
        ("test_augment", "test_regularisation mixup"),
        ("flip upside down", "image[:, ::-1], image)", "image[::-1], image)"),
        ("flip always", "jax.random.bernoulli(flip_key)", "jax.random.bernoulli(flip_key, 1.0)"),
        ("shift by at most half", "reach = round(shift * image.shape[0])", "reach = round(shift * image.shape[0] / 2)"),
        ("black edges", 'mode="edge"', 'mode="constant"'),
        (
            "shift to one side",
            "jax.random.randint(key, (2,), 0, 2 * reach + 1)",
            "jax.random.randint(key, (2,), 0, reach + 1)",
        ),
        ("no saturation", "image = grey + (image - grey) * saturation", "image = image * 1.0"),
        ("no contrast", "image = (mean + (image - mean) * contrast) * brightness", "image = image * brightness"),
        ("brighter alone", "minval=1 - change, maxval=1 + change", "minval=1.0, maxval=1 + change"),
        ("colours not clipped", "return jnp.clip(image, 0.0, 255.0)", "return image"),
        ("rotation in radians", "angle = jnp.deg2rad(config.rotation) * angle", "angle = config.rotation * angle"),
        ("erasing everywhere", "& (erased < share)", "& (erased >= 0)"),
        ("mixup share below half", "jnp.maximum(beta, 1 - beta)", "beta"),
        ("mixup of an image with itself", "(1 - weight) * swap_neighbours(images)", "(1 - weight) * images"),
    ),
    *_changes(
        "agegender_jax/losses.py",
        ("test_losses",),
        (
            "an open group counts its first bucket",
            "(bucket <= age[:, 1:])\n    log_right",
            "(bucket <= age[:, :1])\n    log_right",
        ),
        (
            "no label smoothing",
            "loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1)",
            "loss = (1 - smoothing) * loss",
        ),
        ("smoothing of gender doubled", "dtype=jnp.float32), smoothing)", "logits.shape[-1]), 2 * smoothing)"),
        ("ordinal distances squared", "-distance / spread)", "-(distance**2) / spread)"),
        ("bucket weights not scaled", "(weights / (shares @ weights).mean())", "weights"),
    ),
    *_changes(
        "agegender_jax/ensemble.py",
        ("test_metrics", "test_calibration", "test_array_checks", "test_parallel not two_processes", "test_pipeline"),
        (
            "sum of the members",
            "sum(jnp.asarray(p) for p in parts) / len(parts), *members)",
            "sum(jnp.asarray(p) for p in parts), *members)",
        ),
        (
            "first member alone",
            "sum(jnp.asarray(p) for p in parts) / len(parts), *members)",
            "jnp.asarray(parts[0]), *members)",
        ),
        ("padding counted", "x[real]", "x"),
        ("temperature multiplied", "age / age_temperature", "age * age_temperature"),
        (
            "temperature of age for gender",
            "gender / gender_temperature",
            "gender / age_temperature",
        ),
        ("images not normalised", "data.normalize_float(images)", "images * 1.0"),
    ),
    *_changes(
        "agegender_jax/metrics/accuracy.py",
        ("test_metrics", "test_intervals"),
        ("an open group's first bucket alone", "return np.clip(bucket, age[:, 0], age[:, 1])", "return age[:, 0]"),
        (
            "signed distances",
            "distance = np.abs(bucket - nearest_bucket(bucket, age))",
            "distance = bucket - nearest_bucket(bucket, age)",
        ),
        ("adjacent buckets are right", "(distance == 0).astype(int)", "(distance <= 1).astype(int)"),
        ("confusion transposed", "(np.asarray(gender), predicted)", "(predicted, np.asarray(gender))"),
    ),
    *_changes(
        "agegender_jax/metrics/intervals.py",
        ("test_intervals",),
        ("intervals of 90 %", "np.quantile(known, [0.025, 0.975])", "np.quantile(known, [0.05, 0.95])"),
        ("Wilson without its correction", "middle = p + z2 / (2 * count)", "middle = p"),
    ),
    *_changes(
        "agegender_jax/metrics/calibration.py",
        ("test_calibration",),
        (
            "inverse temperature",
            "_scaled_nll(logits, right, np.exp(log_t))",
            "_scaled_nll(logits, right, np.exp(-log_t))",
        ),
        (
            "bins without their upper edge",
            "np.ceil(confidence * BINS).astype(int) - 1",
            "np.floor(confidence * BINS).astype(int)",
        ),
    ),
    *_changes(
        "agegender_jax/metrics/collapse.py",
        ("test_metrics",),
        ("collapse from the start", 'name == "gender" and half_done', 'name == "gender"'),
        ("collapse at half of one class", "ONE_CLASS_PERCENT = 98", "ONE_CLASS_PERCENT = 50"),
    ),
    *_changes(
        "agegender_jax/data/splits.py",
        ("test_splits", "test_near_duplicates"),
        ("seed ignored", 'f"{seed} {ids[i]}"', 'f"{ids[i]}"'),
        ("equal images not grouped", "near, same_hash, equal]", "near, same_hash]"),
        ("groups larger than their place", "and sizes[i] <= room:", "and room > 0:"),
        ("test of a fifth", '("test", 0.1)', '("test", 0.2)'),
        (
            "groups named by their first image",
            "order = np.lexsort((np.asarray(sha256), group))",
            'order = np.argsort(group, kind="stable")',
        ),
    ),
    *_changes(
        "agegender_jax/data/near_duplicates.py",
        ("test_near_duplicates", "test_splits"),
        (
            "mirrored copies not compared",
            "            close |= own_mirrored @ other.T >= least\n            if max(a.shape[1], b.shape[1]) > HALF:",
            "            if False:",
        ),
        ("29 bits instead of 30", "256 - 2 * limit", "256 - 2 * limit + 2"),
        ("nothing needs confirmation", "return agree | (distances(*hashes) <= COPY_LIMIT)", "return agree | True"),
    ),
    *_changes(
        "agegender_jax/data/pipeline.py",
        ("test_pipeline",),
        (
            "the same order in each epoch",
            "np.random.default_rng((self._seed, epoch))",
            "np.random.default_rng(self._seed)",
        ),
        ("labels of other rows", "age[rows], gender[rows], np.ones", "age[rows], gender[rows[::-1]], np.ones"),
        ("processes read the same share", "rows = order(step)[process_index * share", "rows = order(step)[0 * share"),
    ),
    *_changes(
        "agegender_jax/checkpoint/saving.py",
        ("test_checkpoint",),
        (
            "the best step removed",
            "keep = {*sorted(good)[-KEEP_LATEST:], reading.best_of(good)}",
            "keep = {*sorted(good)[-KEEP_LATEST:]}",
        ),
        ("one step to fall back to is missing", "KEEP_LATEST = 2", "KEEP_LATEST = 1"),
        (
            "unreadable steps removed",
            "for step in good.keys() - keep:",
            "for step in set(reading.step_folders(self.folder)) - keep:",
        ),
        ("room not checked", "if free < needed:", "if free < 0:"),
    ),
    *_changes(
        "agegender_jax/checkpoint/reading.py",
        ("test_checkpoint", "test_validate"),
        ("the worst step is the best", "return min(evaluated, key", "return max(evaluated, key"),
        ("damage not looked for", "            manifest.verify(step_folder)\n", ""),
    ),
    *_changes(
        "agegender_jax/checkpoint/manifest.py",
        ("test_checkpoint", "test_validate"),
        ("raw loss chooses the best step", 'key = "calibrated_loss" if', 'key = "val_loss" if'),
        (
            "content of files not compared",
            "if actual != expected[name]:",
            'if actual["size"] != expected[name]["size"]:',
        ),
        ("other schemas are read", 'if record["schema"] != SCHEMA:', "if False:"),
    ),
    *_changes(
        "agegender_jax/run/training/compiled_step.py",
        (
            "test_step_loss",
            "test_regularisation config",
            "test_parallel not two_processes",
            "test_learning",
        ),
        (
            "BatchNorm not synchronised",
            "models.from_config(config.model, axis_name=parallel.AXIS)",
            "models.from_config(config.model)",
        ),
        (
            "augmentation left out",
            "data.normalize_float(augment(keys, images, config.augment))",
            "data.normalize_float(images)",
        ),
        ("smoothing not passed on", "label_smoothing=config.loss.label_smoothing,", ""),
        ("seed not used", "jax.random.key(config.seed), 1)", "jax.random.key(0), 1)"),
        ("never skips", 'config.train.on_nonfinite == "skip"', "False"),
    ),
    *_changes(
        "agegender_jax/run/training/loop.py",
        ("test_nonfinite", "test_training", "test_resume"),
        (
            "resume begins with the first batch",
            "self.dataset.train_batches(config, start, self.num_steps",
            "self.dataset.train_batches(config, 0, self.num_steps",
        ),
        ("sums not reset", "state = state.replace(sums=driver.replicate(training.zero_sums()))", "pass"),
        ("the state is saved as it is", "monitor.check(step, state)", "pass"),
        ("the log does not go back", "self.recorder.rewind(int(state.step))", "pass"),
        ("excluded batches are trained on", "if step in monitor.excluded:", "if False:"),
    ),
    *_changes(
        "agegender_jax/run/training/nonfinite.py",
        ("test_nonfinite",),
        ("averages not looked at", "if not checks.is_finite(tree):", "if False:"),
        ("rollbacks without end", "and count < MAX_ROLLBACKS", ""),
        ("skips without end", "if self._in_a_row == MAX_SKIPPED:", "if False:"),
        ("skips forgotten at a restart", 'event["step"] <= step', 'event["step"] < 0'),
        ("divergence not noticed", "if loss > DIVERGED:", "if False:"),
    ),
    *_changes(
        "agegender_jax/run/train.py",
        ("test_training", "test_resume"),
        ("lack of memory not explained", "stack.enter_context(device_memory.explained_memory(config))", "pass"),
        (
            "no warning of a new rate",
            "initial_state.warn_of_new_rate(config, checkpoints, start, steps_per_epoch, num_steps, progress)",
            "pass",
        ),
    ),
    *_changes(
        "agegender_jax/run/training/initial_state.py",
        ("test_initial_weights", "test_resume"),
        ("resume from the seed", "if resuming else None", "if False else None"),
        ("weights to start from ignored", "    if not weights:\n        return state", "    return state"),
    ),
    *_changes(
        "agegender_jax/config/allowed_values.py",
        ("test_config",),
        ("decay of 1", '"optimizer.ema": "[0, 1)"', '"optimizer.ema": "[0, 1]"'),
        ("rate of 0", '"optimizer.lr": "(0, inf)"', '"optimizer.lr": "[0, inf)"'),
        ("infinity allowed", 'value < high if interval[-1] == ")"', 'value <= high if interval[-1] == ")"'),
        ("nothing to train", 'values["loss.age_weight"] == values["loss.gender_weight"] == 0', "False"),
        ("numbers as booleans", "isinstance(value, bool) and isinstance(like, bool)", "True"),
    ),
    *_changes(
        "agegender_jax/run/checks/config.py",
        ("test_training",),
        ("BatchNorm on one image", "config.batch_size // config.accumulate == 1", "False"),
        ("deterministic too late", "and not determinism.is_requested()", "and False"),
    ),
    *_changes(
        "agegender_jax/run/checks/data.py",
        ("test_training",),
        ("empty splits not noticed", "if not len(faces.indices(split))", "if False"),
    ),
    *_changes(
        "agegender_jax/run/host/device_memory.py",
        ("test_training",),
        ("other errors taken for a lack of memory", 'if "RESOURCE_EXHAUSTED" not in str(error):', "if False:"),
    ),
    *_changes(
        "agegender_jax/checkpoint/reading.py",
        ("test_ema", "test_old_checkpoint"),
        ("parameters instead of their average", 'params = "ema" if "ema" in stored else "params"', 'params = "params"'),
        ("averages of version 0.1.0 as they are", 'if "ema" not in state or "params" in state["ema"]:', "if True:"),
    ),
    *_changes(
        "agegender_jax/run/training/validate.py",
        ("test_validate", "test_training"),
        (
            "untrained heads choose the best step",
            "for name, weight in weights.items() if weight",
            "for name, weight in weights.items()",
        ),
        (
            "collapse of the second half from the start",
            "half_done = 2 * step >= self.recorder.num_steps",
            "half_done = True",
        ),
        ("val scores not saved", "        checkpoints.add_metrics(step, scores)", "        checkpoints.poll()"),
        ("a checkpoint without a finite loss stays", "checkpoints.withdraw(step)", "pass"),
    ),
    *_changes(
        "agegender_jax/models/frequency_critic.py",
        ("test_frequency_critic head_changes or head_of_the_step",),
        ("heads in the other's steps", '{"age_head": step % 2 == 1', '{"age_head": step % 2 == 0'),
        ("both heads in every step", "if not self.alternate:", "if True:"),
    ),
    *_changes(
        "agegender_jax/training.py",
        ("test_frequency_critic head_changes",),
        ("moments move a frozen head", 'if hasattr(model, "frozen_at"):', "if False:"),
        ("a system without the step's number", ', "step": step}', "}"),
    ),
    *_changes(
        "agegender_jax/report/figures/relevance.py",
        ("test_explanation_figures relevance_of_several",),
        ("right predictions marked as wrong", "not right)", "right)"),
    ),
    *_changes(
        "agegender_jax/run/align.py",
        ("test_align outside_the_folder or no_longer_has",),
        ("chips of removed pictures kept", "for file in sorted(removed):", "for file in ():"),
        ("chips named anywhere", '".." not in path.split("/")', "True"),
    ),
    *_changes(
        "agegender_jax/run/pictures/jsonl_csv_rows.py",
        ("test_picture_files damaged_line",),
        (
            "rows after a damaged line discarded",
            "if name is None:\n                continue",
            "if name is None:\n                break",
        ),
        ("incomplete pictures kept", "len(lines) == count and ", ""),
    ),
    *_changes(
        "agegender_jax/explain/maps.py",
        ("test_launch_explain open_last_group",),
        ("buckets of an open group apart", "metrics.join_from(of_head, open_from).argmax(-1)", "of_head.argmax(-1)"),
        ("the first bucket of an open group explained", "open_from + of_head[:, open_from:].argmax(-1)", "open_from"),
    ),
    *_changes(
        "agegender_jax/models/cpu_convolution.py",
        ("test_layers order_of_dimensions",),
        (
            "slow gradient of x",
            'numbers = ("NHWC", "HWOI", "NHWC")',
            "numbers, kernel = DIMENSIONS, kernel.swapaxes(2, 3)",
        ),
        ("slow gradient of the kernel", "functools.partial(_transposable, _linear_in_kernel)", "_conv"),
    ),
    *_changes(
        "agegender_jax/data/csv_splits.py",
        ("test_csv_splits",),
        ("groups may lie in several splits", "    if divided:", "    if False:"),
        ("a missing row means train", "    _check_complete(table, prepared.file[own].tolist(), path)\n", ""),
        (
            "joined near-duplicates of test stay in train",
            "    splits.leave_out_copies(split, own, prepared.group)\n",
            "",
        ),
    ),
)
