"""Results of a campaign as Markdown, with their shares of the machine's limits."""

import statistics

MINIMUM_AGES = "18", "25"  # of the decisions in shipped_weights.json


def all_of(results: dict) -> str:
    """Return all tables that have rows."""
    tables = (table(results) for table in (full_size, resumed, throughput, kernels, fed, failures))
    return "\n\n".join(table for table in tables if table.count("\n") > 1)


def throughput(results: dict) -> str:
    """Return the lines of launch.benchmark; `of products` is relative to the measured rate of matrix products."""
    head = "what, net, pixels, batch, dtype, images/s, PyTorch, ratio, blocks, GFLOP/s, of products, compile s, MiB"
    rows = [[*head.split(", "), "MiB PyTorch"], ["---", "---", *["--:"] * 2, "---", *["--:"] * 9]]
    for line in _results(results, "train", "evaluate", "input"):
        torch, blocks = line.get("torch", {}), line.get("block_ratios")
        numbers = (
            (line["images_per_second"], 1),
            (torch.get("images_per_second"), 1),
            (line["ratio_to_torch"], 2),
            (blocks and f"{blocks['min']:.2f}-{blocks['max']:.2f}", None),
            (line["gflops_per_second"], 0),
            (share(results, line), 2),
            (line["compile_s"], 1),
            (line["peak_memory_mb"], 0),
            (torch.get("peak_memory_mb"), 0),
        )
        rows.append([line["what"], *_point(line), *_cells(numbers)])
    return markdown(rows)


def kernels(results: dict) -> str:
    """Return a training step's shares of the machine's matrix products and memory bandwidth, and its largest kernel."""
    head = "net, pixels, batch, dtype, step ms, busy, GFLOP/s, of products, GB/s, of triad, largest"
    rows = [head.split(", "), ["---", *["--:"] * 2, "---", *["--:"] * 6, "---"]]
    for line in _results(results, "kernels"):
        triad = _limits(results).get("triad")
        numbers = (
            (line["step_ms"], 1),
            (line["busy"], 2),
            (line["gflops_per_second"], 0),
            (share(results, line), 2),
            (line["gb_per_second"], 0),
            (line["gb_per_second"] / line["devices"] / triad if triad else None, 2),
        )
        largest = line["kernels"][0]
        rows.append([*_point(line), *_cells(numbers), f"{largest['name'][:40]}, {largest['share']:.2f}"])
    return markdown(rows)


def fed(results: dict) -> str:
    """Return the throughput of jobs relative to their step alone."""
    head = "net, pixels, batch, dtype, images/s, of step alone, lines, waiting, start s, steps"
    rows = [head.split(", "), ["---", *["--:"] * 2, "---", *["--:"] * 6]]
    for line in _results(results, "fit"):
        blocks = line["block_ratios"]
        numbers = (
            (line["images_per_second"], 1),
            (line["of_step_alone"], 2),
            (f"{blocks['min']:.2f}-{blocks['max']:.2f}", None),
            (f"{100 * line['data_wait']:.1f} %", None),
            (line["start_s"], 1),
            (line["steps"], 0),
        )
        rows.append([*_point(line), *_cells(numbers)])
    return markdown(rows)


def full_size(results: dict) -> str:
    """Return the scores on test, with 95 % intervals, of the nets that a campaign trained."""
    head = "trained on, net, pixels, batch, dtype, epochs, images/s, n, age, within one, gender, AABD"
    rows = [head.split(", "), ["---", "---", *["--:"] * 2, "---", *["--:"] * 3, *["---"] * 4]]
    for net in _results(results, "full_size"):
        counts = [str(net["epochs"]), f"{net['images_per_second']:,.0f}", f"{net['n']:,}"]
        scores = [with_interval(net, name) for name in ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "aabd")]
        rows.append([net["source"]["name"], *_point(net), *counts, *scores])
    return markdown(rows)


def resumed(results: dict) -> str:
    """Return whether resumed trainings are equal, and the rate of deterministic ones relative to plain ones."""
    head = "net, pixels, batch, dtype, killed after step, equal, images/s, of not deterministic, note"
    rows = [head.split(", "), ["---", *["--:"] * 2, "---", "--:", "---", *["--:"] * 2, "---"]]
    for line in _results(results, "resume"):
        equal = {True: "yes", False: "no", None: ""}[line["equal"]]
        rates = _cells(((line.get("images_per_second"), 0), (line.get("of_plain"), 2)))
        rows.append([*_point(line), str(line.get("killed_after", "")), equal, *rates, _cell(line.get("note", ""))])
    return markdown(rows)


def failures(results: dict) -> str:
    """Return the points that failed, and those that were tried and are not finished."""
    rows = [["point", "failed with"], ["---", "---"]]
    errors = {command: entry["error"] for command, entry in results["points"].items() if "error" in entry}
    open_points = {command: f"not finished: {'; '.join(tries)}" for command, tries in results.get("tried", {}).items()}
    for command, text in (errors | open_points).items():
        rows.append([f"`{command.removeprefix('python -m ')}`", _cell(text)])
    return markdown(rows)


def _cell(text: str) -> str:
    """Return the end of a text, without what would end a cell."""
    return " ".join(text.split())[-200:].replace("|", "\\|")


def share(results: dict, line: dict) -> float | None:
    """Return GFLOP/s per device over those of matrix products in the same dtype; None if either is unknown."""
    products, reached = _limits(results).get(f"matmul_{line['dtype']}"), line["gflops_per_second"]
    return reached / line["devices"] / products if products and reached else None


def _limits(results: dict) -> dict[str, float]:
    """Return JAX's measured limits."""
    return next((line["jax"] for line in _results(results, "limits")), {})


def _results(results: dict, *whats: str) -> list[dict]:
    values = [entry["result"] for entry in results["points"].values() if "result" in entry]
    return [result for result in values if result.get("what") in whats]


def _point(line: dict) -> list[str]:
    return [str(line[key]) for key in ("model", "image_size", "batch_size", "dtype")]


def _cells(numbers: tuple) -> list[str]:
    return ["" if n is None else n if digits is None else f"{n:.{digits}f}" for n, digits in numbers]


def markdown(rows: list[list[str]]) -> str:
    """Return a table of cells; the second row has the alignments."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shipped_weights(rows: list[dict]) -> str:
    """Return the scores of the weights of the package on each source, with 95 % intervals."""
    lines = [["source", "n", "net", "age", "within one", "gender", "AABD"], ["---", "--:", "---", *["---"] * 4]]
    for row in rows:
        for model in row["models"]:
            names = ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "aabd")
            lines.append([row["name"], f"{row['n']:,}", model["name"], *(with_interval(model, n) for n in names)])
    return markdown(lines)


def shipped_doubts(rows: list[dict]) -> str:
    """Return what intervals, `unsure` and `over` of the weights of the package are worth on each source."""
    head = "source, n, interval holds the age, groups in it, gender is sure, right where sure"
    lines = [[*head.split(", ")], ["---", *["--:"] * 5]]
    for years in MINIMUM_AGES:
        lines[0] += [f"below {years} and yes", f"{years} or above and no", f"unsure of {years}"]
        lines[1] += ["--:"] * 3
    for row in rows:
        shares = (row["sure"]["share"], row["sure"]["gender_accuracy"])
        cells = [_percent(row["coverage"]["measured"]), f"{row['coverage']['groups']:.1f}", *map(_percent, shares)]
        for years in MINIMUM_AGES:
            cells += [_percent(row["over"][years][name]) for name in ("yes_below", "no_above", "unsure")]
        lines.append([row["name"], f"{row['n']:,}", *cells])
    return markdown(lines)


def shipped_coverages(rows: list[dict]) -> str:
    """Return the share of intervals that hold the age for several values of --coverage, on each source."""
    lines = []
    for row in rows:
        measured = row["other_coverages"] | {str(row["coverage"]["promised"]): row["coverage"]["measured"]["value"]}
        promised = sorted(measured, key=float)
        lines = lines or [["source", "n", *(f"`{c}`" for c in promised)], ["---", *["--:"] * (1 + len(promised))]]
        lines.append([row["name"], f"{row['n']:,}", *(f"{100 * measured[c]:.1f} %" for c in promised)])
    return markdown(lines)


def shipped_views(rows: list[dict]) -> str:
    """Return what the weights of the package are worth without the mirror images and with them."""
    head = ["source", "views", "age", "gender", "AABD", "gender is sure", "right where sure"]
    lines = [head, ["---", "---", *["--:"] * 5]]
    for row in rows:
        for views, of in (("none", row["models"][-1] | {"sure": row["sure"]}), ("flip", row["mirrored"])):
            scores = [f"{of[score]:.3f}" for score in ("age_accuracy", "gender_accuracy", "aabd")]
            sure = of["sure"]
            lines.append([row["name"], f"`{views}`", *scores, *map(_percent, (sure["share"], sure["gender_accuracy"]))])
    return markdown(lines)


def weight_choices(rows: list[dict]) -> str:
    """Return the scores of nets and of their averages on val, with the forward passes that an image takes."""
    lines = [["average of", "views", "passes", "age", "gender", "AABD"], ["---", "---", *["--:"] * 4]]
    for row in rows:
        passes = len(row["nets"]) * {"none": 1, "flip": 2}[row["views"]]
        scores = [f"{row[score]:.3f}" for score in ("age_accuracy", "gender_accuracy", "aabd")]
        lines.append([", ".join(row["nets"]), f"`{row['views']}`", str(passes), *scores])
    return markdown(lines)


def control(results: dict) -> str:
    """Return the scores on test of one recipe here and in PyTorch, and the differences over images and seeds."""
    lines = [["", "age accuracy", "gender accuracy", "AABD", "cross-entropy"], ["---", *["---"] * 4]]
    names = ("age_accuracy", "gender_accuracy", "aabd")
    losses = []
    for run in results["runs"]:
        for name, of in (("ours", run["against"]["test"]), ("PyTorch", run["test"])):
            lines.append([f"{name}, seed {run['seed']}", *(f"{of[score]:.3f}" for score in (*names, "loss"))])
        losses.append(run["against"]["test"]["loss"] - run["test"]["loss"])
    cells = [difference(results["minus_torch"][name]) for name in names]
    lines.append(["ours minus PyTorch", *cells, f"{statistics.mean(losses):+.3f}"])
    return markdown(lines)


def predict_speed(rows: list[dict]) -> str:
    """Return images a second of predict and of face-api.js: medians, and the ratio with its range."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        chips = row["pictures_are"] == "chips"
        what = f"chips of {row['size'].partition('x')[0]} pixels" if chips else f"photos, {row['size']}"
        what += f", `--views={row['views']}`" if row.get("views") else ""
        what += "" if chips else f", {row['faces']} faces"
        if row["face_api_faces"] != row["faces"]:
            what += f", of which it finds {row['face_api_faces']}"
        groups.setdefault((what, row["backend"]), []).append(row)
    backends = {"wasm": "WebAssembly", "cpu": "plain JavaScript, as its package runs in Node"}
    lines = [["", "face-api.js on", "pictures a second", "face-api.js", "ratio"], ["---", "---", "--:", "--:", "--:"]]
    for (what, backend), measured in groups.items():
        rates = [statistics.median(row[key] for row in measured) for key in ("ours_per_second", "face_api_per_second")]
        ratios = sorted(row["ratio"] for row in measured)
        spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        lines.append([what, backends[backend], *(f"{rate:.1f}" for rate in rates), spread])
    return markdown(lines)


def pasted_faces(results: dict) -> str:
    """Return how many faces in photos are found, and how far their predictions are from those of the faces alone."""
    lines = [["faces", "n", "found", "change of age, years", "same gender"], ["---", *["--:"] * 4]]
    for name, row in [item for kind in results["groups"].values() for item in kind.items()]:
        pairs = ["", ""]  # no face was found
        if row["same_gender"] is not None:
            pairs = [f"{row['age_change']:.2f}", f"{100 * row['same_gender']:.1f} %"]
        lines.append([name, f"{row['faces']}", f"{100 * row['recall']:.1f} %", *pairs])
    return markdown(lines)


def face_flags(results: dict) -> str:
    """Return the share of the faces that each warning is raised for, where it should be and elsewhere."""
    lines = [["warning", "raised where due", "raised elsewhere"], ["---"] * 3]
    for warning, columns in results["rows"].items():
        due, *elsewhere = (
            f"{name}: {row['raised'] / max(row['detected'], 1):.1%} of {row['detected']}"
            for name, row in columns.items()
        )
        lines.append([f"`{warning}`", due, "; ".join(elsewhere)])
    return markdown(lines)


def alignment(results: dict) -> str:
    """Return how far the corners of a chip move and its roll differs, and the time, of each way to align."""
    heads = ["alignment", "median error", "95 % below", "median error of roll, degrees", "CPU ms a face"]
    lines = [heads, ["---", *["--:"] * 4]]
    for name, row in results["rows"].items():
        numbers = f"{row['median_error']:.3f}", f"{row['error_95']:.3f}", f"{row['median_roll_error']:.1f}"
        lines.append([name, *numbers, f"{row['cpu_ms']:.0f}"])
    return markdown(lines)


def shipped_groups(row: dict) -> str:
    """Return the scores of the ensemble inside groups of one source."""
    lines = [["group", "n", "age", "gender", "AABD", "interval holds the age"], ["---", *["--:"] * 5]]
    for kind in ("gender", "race", "age"):
        for name, group in row["groups"][kind].items():
            scores = [f"{group[score]:.2f}" for score in ("age_accuracy", "gender_accuracy", "aabd")]
            lines.append([name, f"{group['n']:,}", *scores, _percent(row["coverage_by_group"].get(name))])
    return markdown(lines)


def shipped_groups_elsewhere(rows: list[dict]) -> str:
    """Return the scores of the ensemble inside groups of several sources, side by side."""
    head = ["group"] + [f"{name}, {row['name']}" for row in rows for name in ("n", "age", "gender", "interval")]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for kind in ("gender", "race", "age"):
        for name in dict.fromkeys(name for row in rows for name in row["groups"][kind]):
            line = [name]
            for row in rows:
                group = row["groups"][kind].get(name)
                scores = [f"{group[score]:.2f}" for score in ("age_accuracy", "gender_accuracy")] if group else ["", ""]
                held = _percent(row["coverage_by_group"].get(name))
                line += [f"{group['n']:,}" if group else "", *scores, held if group else ""]
            lines.append(line)
    return markdown(lines)


def with_interval(model: dict, name: str) -> str:
    """Return a score of a model of results.json with its 95 % interval."""
    low, high = model["ci95"][name]
    return f"{model[name]:.3f} [{low:.3f}, {high:.3f}]"


def difference(compared: dict) -> str:
    """Return a value of `metrics.compare` with its 95 % interval."""
    low, high = compared["ci95"]
    return f"{compared['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _percent(share: dict | None) -> str:
    return f"{100 * share['value']:.1f} %" if share else ""
