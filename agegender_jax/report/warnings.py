"""Warnings about the numbers of a report."""

from collections.abc import Sequence

from agegender_jax.models import CONTROLS
from agegender_jax.report.runs import Run, is_synthetic

FEW_IMAGES = 300


def warnings(results: dict, runs: Sequence[Run]) -> list[str]:
    """Return warnings about results and runs, one sentence or two each."""
    texts = []
    if results["allow_leak"]:
        texts.append("Leakage was allowed: models may have been trained on these images. These are not test results.")
    if excluded := results.get("excluded_leaked"):
        texts.append(f"{excluded} images are left out: a member was trained on them or on near-duplicates of them.")
    for model in results["models"]:
        heads = ", ".join(collapsed(model, runs))
        if heads:
            texts.append(f"{model['name']}: collapsed ({heads}); no better than a constant prediction.")
    for run in runs:
        texts += _about_run(run, results)
    if 0 < results["n"] < FEW_IMAGES:
        texts.append(f"Only {results['n']} images: the intervals are wide, those of groups even wider.")
    texts += _about_temperatures(results, runs)
    if is_synthetic(results["source"]["name"]):
        texts.append("The faces are synthetic: these numbers do not show how well the models work on real faces.")
    kinds = ("gender", "race", "age")
    small = sum(row.get("small", False) for kind in kinds for row in results["groups"][kind].values())
    if small:
        texts.append(f"{small} of the groups by gender, race or age have fewer than 30 images.")
    return texts


def collapsed(model: dict, runs: Sequence[Run]) -> list[str]:
    """Return the collapsed heads of a model of the results, without those that it, or no member of it, has trained."""
    own = [run for run in runs if run.name == model["name"]] or runs
    return [head for head in model["collapsed"] if not own or any(head not in run.untrained_heads() for run in own)]


def _about_run(run: Run, results: dict) -> list[str]:
    texts = [
        f"{run.name}: the {head} head was not trained (loss.{head}_weight is 0); its {head} scores are meaningless."
        for head in run.untrained_heads()
    ]
    if count := (run.calibration or {}).get("val_trained_on"):
        texts.append(
            f"{run.name}: {count} images of val were trained on by the nets that it started or learned from, so its "
            "best step and its temperatures may be wrong."
        )
    feed = run.config["model"]["gender_to_age"]
    if feed in CONTROLS:
        texts.append(f"{run.name}: a control experiment whose age head receives the {feed} gender.")
    fingerprint = run.run.get("source", {}).get("fingerprint")
    if fingerprint not in (None, results["source"]["fingerprint"]):
        texts.append(f"{run.name} was trained on another source: {run.run['source'].get('name')}.")
    return texts


def _about_temperatures(results: dict, runs: Sequence[Run]) -> list[str]:
    members = [model for model in results["models"] if "members" not in model]
    raw = [m["name"] for m in members if not m.get("calibration", {}).get("age", {}).get("temperature")]
    texts = [f"{', '.join(raw)}: no temperature was applied; the probabilities are uncalibrated."] if raw else []
    for run in runs:
        fitted = (run.calibration or {}) if run.name not in raw else {}
        if fitted.get("n") == 0:
            texts.append(f"{run.name}: val had too few images to fit temperatures; they are 1.")
        if fitted.get("step", run.step) != run.step:
            texts.append(f"{run.name}: the temperatures were fitted at step {fitted['step']:,}, not at this one.")
    return texts
