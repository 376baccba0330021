"""Five steps of SGD on random images, in this process or, as a program, as one of several processes.

python tests/tiny_training.py ADDRESS NUM_PROCESSES PROCESS_ID prints as JSON the losses of both drivers, the
predictions of all devices, and the values that the processes exchange.
"""

import functools
import itertools
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import data, ensemble, optim, parallel, training
from agegender_jax.config import default
from agegender_jax.data import pipeline
from agegender_jax.data.augment import augment
from agegender_jax.errors import DataError, PeerReportedError
from agegender_jax.models import initializers, layers
from agegender_jax.models.agegender import AgeGenderNet
from agegender_jax.models.resnet import INIT
from agegender_jax.run.host import processes
from agegender_jax.structs import Batch

BATCH, SIZE, STEPS, RATE = 16, 32, 5, 0.1


def prepare_images(keys, images):
    return data.normalize_float(augment(keys, images, default().augment))


def batches():
    """Yield the same global batches in every process, each of which takes its own rows."""
    rng = np.random.default_rng(0)
    share = BATCH // jax.process_count()
    rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    while True:
        age = rng.integers(0, 12, (BATCH, 1), dtype=np.int32)
        batch = Batch(
            image=rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
            age=np.concatenate([age, age], 1),
            gender=rng.integers(0, 2, BATCH, dtype=np.int32),
            mask=np.ones(BATCH, np.float32),
        )
        yield jax.tree.map(lambda x: x[rows], batch)


class Smooth(nn.Module):
    """Three convolutions with synchronised BatchNorm and no kink: a ReLU that rounding flips moves gradients by
    per cents, and further steps at this rate would amplify it."""

    axis_name: str | None = parallel.AXIS

    @nn.compact
    def attend(self, images, *, train):
        x = images
        for i, stride in enumerate((2, 2, 1)):
            x = layers.conv(16, 3, stride, init=INIT, dtype=jnp.float32, name=f"conv{i}")(x)
            x = nn.softplus(layers.norm(train, jnp.float32, self.axis_name)(name=f"bn{i}")(x))
        return x.mean((1, 2)), ()


def build_model():
    return AgeGenderNet(Smooth(), 12)


def train(driver_name, devices, steps=STEPS):
    """Return the loss of each of the first `steps` steps."""
    config = default()
    config.optimizer.update(name="sgd", lr=RATE, schedule="constant", clip_norm=0.0, momentum=0.0)
    model = build_model()
    tx = optim.build(config.optimizer, steps)
    step = functools.partial(
        training.train_step, model=model, tx=tx, key=jax.random.key(7), prepare_images=prepare_images
    )
    driver = parallel.driver(driver_name, step, devices)
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), SIZE))
    sums = [0.0]
    for batch in itertools.islice(batches(), steps):
        state = driver.step(state, driver.split(batch))
        sums.append(float(state.sums["loss"]))
    return np.diff(sums)


def predict(devices):
    """Return probabilities for 19 images in batches of 8, five of the last one padding."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (19, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.zeros(19, np.int32)
    model = AgeGenderNet(Smooth(axis_name=None), 12)
    variables = initializers.init(model, jax.random.key(0), data.normalize(images))
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = pipeline.eval_batches(images, labels, labels, indices=np.arange(19), batch_size=8, **share)
    return ensemble.predict_all(model, variables, batches, devices=devices)


def failing():
    """Return the error that a DataError of process 1 becomes in this process."""
    try:
        with processes.report_errors_once(), processes.sync_errors():
            if not processes.is_main():
                raise DataError("what", "where", "fix")
    except DataError as error:
        return f"DataError: {error.what}"
    except PeerReportedError as error:
        return f"PeerReportedError: {error.code}"


def main(address, num_processes, process_id):
    jax.distributed.initialize(address, int(num_processes), int(process_id))
    result = {name: train(name, jax.devices(), n).tolist() for name, n in (("shard_map", STEPS), ("pmap", 2))}
    result["probs"] = predict(jax.devices()).age.tolist()
    first = processes.is_main()
    result["gathered"] = processes.gather_texts("first" if first else "second")
    result["shared"] = processes.broadcast_value({"process": jax.process_index()})
    values = (np.array([1, -0.0, 2.5], np.float32), np.array([7], np.int32))
    result["broadcast"] = [x.tolist() for x in processes.broadcast(values if first else processes.zeros(values))]
    with processes.sync_errors() as agreed:
        agreed.value = 75 if first else 130
    result["largest"] = agreed.value
    result["failed"] = failing()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
