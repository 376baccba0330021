"""The config of a training run that takes seconds, for tests in this process."""

from agegender_jax import synthetic
from agegender_jax.config import default


def config(folder):
    """Return the config of six steps, three an epoch, of a quickly compiled net, on 60 faces drawn into `folder`."""
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    config = default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"), image_size=32)
    config.update(batch_size=16, num_steps=6)
    config.log.update(figures=False, every_steps=1)
    return config
