"""How the members were trained and scored, beside the paper's protocol, and what to beware of."""

from collections.abc import Callable, Sequence

from agegender_jax.report import paper
from agegender_jax.report.runs import Run

DRAWN = "synthetic"  # name of the source that the library draws
FEW_IMAGES = 300


def beside_paper(found: dict, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(what, the paper, here) for every fact of the paper's protocol."""
    collapsed = [model["name"] for model in found["models"] if "gender" in model["collapsed"]]
    here: dict[str, Callable[[Run], str]] = {
        "images": lambda r: f"{sum(r.splits.values()):,} of {_source(r)}" if r.splits else "not recorded",
        "split": _split,
        "duplicates": lambda r: "equal and nearly equal pictures stay in one split",
        "nets": _net,
        "input": lambda r: f"{r.config['data']['image_size']} x {r.config['data']['image_size']} px",
        "starts from": lambda r: r.config.get("init_from") or "random weights, no pre-training",
        "optimiser": _optimiser,
        "epochs": _length,
        "augmentation": lambda r: ", ".join(
            f"{k} {v}" for k, v in r.config["augment"].items() if v or k in ("flip", "shift", "colour")
        ),
        "device": _device,
        "gender head": lambda r: f"collapsed: {', '.join(collapsed)}" if collapsed else "none collapsed",
    }
    return [(what, said, joined(runs, here[what])) for what, said in paper.PROTOCOL.items()]


def joined(runs: Sequence[Run], of: Callable[[Run], str]) -> str:
    """What all runs say, once where they agree, else each with its name."""
    told = [of(run) for run in runs]
    if len(set(told)) <= 1:
        return told[0] if told else "not recorded"
    return "; ".join(f"{run.name}: {text}" for run, text in zip(runs, told, strict=True))


def warnings(found: dict, runs: Sequence[Run]) -> list[str]:
    """Sentences on what a reader must know before believing a number."""
    told = []
    if found["allow_leak"]:
        told.append("Leakage was allowed: images here may have been trained on. These are not test results.")
    if excluded := found.get("excluded_leaked"):
        told.append(f"{excluded} images are left out: a member was trained on them or on near-duplicates of them.")
    for model in found["models"]:
        if model["collapsed"]:
            heads = ", ".join(model["collapsed"])
            told.append(f"{model['name']}: collapsed ({heads}); no better than a constant answer.")
    for run in runs:
        told += [
            f"{run.name}: its {head} head was not trained (loss.{head}_weight is 0); its {head} scores mean nothing."
            for head in untrained(run)
        ]
        feed = run.config["model"]["gender_to_age"]
        if feed in ("true", "shuffled"):
            told.append(f"{run.name}: a control, whose age head is fed the {feed} gender.")
        trained = run.run.get("source", {}).get("fingerprint")
        if trained not in (None, found["source"]["fingerprint"]):
            told.append(f"{run.name} was trained on another source: {run.run['source'].get('name')}.")
    if 0 < found["n"] < FEW_IMAGES:
        told.append(f"Only {found['n']} images: the intervals are wide, and groups wider still.")
    raw = [model["name"] for model in found["models"] if "members" not in model and not _temperature(model)]
    if raw:
        told.append(f"{', '.join(raw)}: no temperature was applied; the probabilities are as the net gave them.")
    for run in runs:
        fitted = (run.calibration or {}) if run.name not in raw else {}
        if fitted.get("n") == 0:
            told.append(f"{run.name}: val had too few images to fit temperatures; 1 was taken.")
        if fitted.get("step", run.step) != run.step:
            told.append(f"{run.name}: its temperatures were fitted at step {fitted['step']:,}, not at this one.")
    if is_drawn(found["source"]["name"]):
        told.append("The faces are drawn by the library: nothing here says how well real faces are judged.")
    small = sum(row.get("small", False) for kind in ("gender", "race", "age") for row in found["groups"][kind].values())
    if small:
        told.append(f"{small} of the groups by gender, race or age have fewer than 30 images.")
    return told


def untrained(run: Run) -> list[str]:
    """The heads whose loss had no weight."""
    return [head for head in ("age", "gender") if not run.config["loss"][f"{head}_weight"]]


def is_free(run: Run) -> bool:
    """Whether no photograph has shaped a run's weights: drawn faces alone, from random weights."""
    return is_drawn(run.run.get("source", {}).get("name", "")) and not run.config["init_from"]


def _temperature(model: dict) -> float | None:
    return model.get("calibration", {}).get("age", {}).get("temperature")


def _source(run: Run) -> str:
    return run.run.get("source", {}).get("name") or run.config["data"]["source"]


def _split(run: Run) -> str:
    sizes = ", ".join(f"{name} {count:,}" for name, count in run.splits.items())
    return f"by content, split_seed {run.config['data']['split_seed']}: {sizes or 'sizes not recorded'}"


def _net(run: Run) -> str:
    model = run.config["model"]
    return f"{model['name']}, width {model['width']:g}, {model['dtype']}"


def _optimiser(run: Run) -> str:
    o = run.config["optimizer"]
    parts = [f"{o['name']}, rate {o['lr']:g}, batch {run.config['batch_size']}, {o['schedule']} schedule"]
    parts += [f"warm-up {o['warmup']:g}"] if o["warmup"] else []
    parts += [f"clipping at {o['clip_norm']:g}"] if o["clip_norm"] else []
    parts += [f"weight decay {o['weight_decay']:g}"] if o["weight_decay"] else []
    smoothing = run.config["loss"]["label_smoothing"]
    return ", ".join(parts + ([f"label smoothing {smoothing:g}"] if smoothing else []))


def _length(run: Run) -> str:
    steps = run.config["num_steps"]
    whole = f"{steps:,} steps" if steps else f"{run.config['num_epochs']}"
    return f"{whole}, scored at step {run.step:,}"


def _device(run: Run) -> str:
    devices = run.run.get("devices")
    return f"{devices['count']} x {devices['kind']}" if devices else "not recorded"


def is_drawn(source: str) -> bool:
    """Whether a source's name says that its faces are drawn by the library."""
    return source == DRAWN
