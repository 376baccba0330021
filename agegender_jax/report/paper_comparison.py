"""The protocol of the runs compared with that of the paper."""

from collections.abc import Callable, Sequence

from agegender_jax.report import paper, warnings
from agegender_jax.report.runs import Run

UNKNOWN = "not recorded"


def compare_protocols(results: dict, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Return (item, the paper's, ours) for every item of the paper's protocol."""
    collapsed = [model["name"] for model in results["models"] if "gender" in warnings.collapsed(model, runs)]
    ours: dict[str, Callable[[Run], str]] = {
        "images": lambda run: f"{sum(run.splits.values()):,} of {run.source()}" if run.splits else UNKNOWN,
        "split": _split,
        "duplicates": lambda run: "identical, nearly identical and mirrored pictures stay in one split",
        "nets": _net,
        "input": lambda run: f"{run.config['data']['image_size']} x {run.config['data']['image_size']} px",
        "initialization": _initialization,
        "optimizer": _optimizer,
        "epochs": _length,
        "augmentation": _augmentation,
        "device": _device,
        "gender head": lambda run: f"collapsed: {', '.join(collapsed)}" if collapsed else "none collapsed",
    }
    return [(item, published, join(runs, ours[item])) for item, published in paper.PROTOCOL.items()]


def _initialization(run: Run) -> str:
    start, teacher = run.config.get("init_from"), run.config["loss"].get("teacher")
    return (start or "random weights, no pre-training") + (
        f"; also trained on the predictions of {teacher}" if teacher else ""
    )


def join(runs: Sequence[Run], describe: Callable[[Run], str]) -> str:
    """Return the description of all runs: a single text if they agree, else one for each run with its name."""
    texts = [describe(run) for run in runs]
    if len(set(texts)) <= 1:
        return texts[0] if texts else UNKNOWN
    return "; ".join(f"{run.name}: {text}" for run, text in zip(runs, texts, strict=True))


def _split(run: Run) -> str:
    sizes = ", ".join(f"{name} {count:,}" for name, count in run.splits.items())
    return f"{run.split_rule()}: {sizes or 'sizes not recorded'}"


def _net(run: Run) -> str:
    model = run.config["model"]
    return f"{model['name']}, width {model['width']:g}, {model['dtype']}"


def _optimizer(run: Run) -> str:
    if run.is_solved():
        return run.optimizer()
    o, parts = run.config["optimizer"], [run.optimizer()]
    parts += [f"warm-up {o['warmup']:g}"] if o["warmup"] else []
    parts += [f"clipping at {o['clip_norm']:g}"] if o["clip_norm"] else []
    parts += [f"weight decay {o['weight_decay']:g}"] if o["weight_decay"] else []
    smoothing = run.config["loss"]["label_smoothing"]
    return ", ".join(parts + ([f"label smoothing {smoothing:g}"] if smoothing else []))


def _augmentation(run: Run) -> str:
    """Return the settings that are on, and in any case those that are on by default."""
    if run.is_solved() and not run.rounds():
        return "none"
    settings = run.config["augment"].items()
    return ", ".join(f"{name} {value}" for name, value in settings if value or name in ("flip", "shift", "colour"))


def _length(run: Run) -> str:
    if run.is_solved():
        return f"{run.rounds()} between the solutions" if run.rounds() else "none"
    steps = run.config["num_steps"]
    total = f"{steps:,} steps" if steps else f"{run.config['num_epochs']}"
    return f"{total}, evaluated at step {run.step:,}"


def _device(run: Run) -> str:
    devices = run.run.get("devices")
    return f"{devices['count']} x {devices['kind']}" if devices else UNKNOWN
