"""The settings that may change when a run is resumed."""

from agegender_jax.config.defaults import default, flat

MAY_DIFFER = ("num_epochs", "num_steps", "parallel", "data.num_workers", "data.cache_dir", "data.source", "data.splits")
MAY_DIFFER_GROUPS = ("log.", "checkpoint.", "train.")


def resume_difference(old: dict, new: dict) -> list[str]:
    """Return the fields that a resumed run must not change and that differ, as "name: old -> new".

    A field that is newer than the run counts as its default.
    """
    old, new = dict(flat(default())) | dict(flat(old)), dict(flat(new))
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name) and name not in MAY_DIFFER and not name.startswith(MAY_DIFFER_GROUPS)
    ]
