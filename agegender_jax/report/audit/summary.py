"""Summary of an audit for a terminal and for the top of audit.html."""

from agegender_jax.report.audit.findings import LABELS


def summary(audit: dict) -> list[tuple[str, str]]:
    """Return the main findings as (item, count)."""
    split, runs = audit["leakage"]["split"], audit["leakage"]["runs"]
    rows = [
        ("usable images", f"{audit['n']:,}"),
        ("unusable files", f"{len(audit['unusable']):,}"),
        ("unusual names", f"{len(audit['remarks']):,}"),
    ]
    for kind, title in (("exact", "equal pictures"), ("near", "nearly equal pictures")):
        pairs = audit[kind]
        differ = pairs["differing"]
        rows += [
            (title, f"{len(pairs['groups']):,} groups, {pairs['files']:,} files, {pairs['pairs']:,} pairs"),
            (f"{title} that differ", ", ".join(f"{name} {differ[name]:,}" for name in LABELS)),
        ]
    images = audit["images"]
    rows += [
        ("odd sizes, tiny, blank", ", ".join(f"{len(images[k]):,}" for k in ("odd_size", "tiny", "blank"))),
        (f"pairs across splits, seed {split['split_seed']}", f"{split['across']['exact'] + split['across']['near']:,}"),
        (
            "test files that a random split leaks, expected",
            f"{split['random']['all']['test_files']:.1f} of {split['random']['all']['test']}",
        ),
    ]
    for run in runs:
        seen = run["seen"]
        rows += [
            (f"pairs across splits of {run['workdir']}", f"{run['across']['exact'] + run['across']['near']:,}"),
            (
                f"seen by {run['workdir']}",
                ", ".join(f"{name} {seen[name]['seen']:,} of {seen[name]['n']:,}" for name in seen),
            ),
        ]
    noise = audit["label_noise"]["exact"]
    for name, title in (("age_accuracy", "ceiling of age accuracy"), ("gender_accuracy", "ceiling of gender accuracy")):
        rows.append((title, f"{bounds(noise[name], 'ceiling')}, {noise[name]['pictures']} pictures"))
    return rows


def bounds(estimate: dict, name: str) -> str:
    """Return "0.749 to 0.864 [0.642, 0.912]": two bounds, and the 95 % interval that contains both."""
    if estimate[name] is None:
        return "n/a"
    text, interval = "{:.3f} to {:.3f}".format(*estimate[name]), estimate[f"{name}_ci95"]
    return text + (" [{:.3f}, {:.3f}]".format(*interval) if interval else "")
