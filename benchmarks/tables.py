"""Results of a campaign as Markdown, with their shares of the machine's limits."""


def all_of(results: dict) -> str:
    """Return all tables that have rows."""
    tables = (table(results) for table in (throughput, kernels, fed))
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
    return _markdown(rows)


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
    return _markdown(rows)


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
    return _markdown(rows)


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


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
