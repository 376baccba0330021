"""MODEL_CARD.md: what a trained net is, in a form that model hubs read, from the files of its workdir alone."""

from collections.abc import Mapping

import jinja2

from agegender_jax.report import formatting, protocol
from agegender_jax.report.runs import Run, command_line

METRICS = ("age_accuracy", "gender_accuracy", "aabd", "age_mae")
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("agegender_jax.report"), trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters |= {
    "number": formatting.number,
    "plain": formatting.plain,
    "cell": lambda text: str(text).replace("|", "\\|"),
}
ENVIRONMENT.globals |= {
    "SCORES": formatting.SCORES,
    "MAIN": formatting.MAIN,
    "estimate": formatting.estimate,
    "interval": formatting.interval,
    "command_line": command_line,
}


def card(run: Run, found: Mapping) -> str:
    """The card of a run as Markdown. Each section names the file that its numbers come from.

    Args:
      run: what the workdir holds besides.
      found: results.json of the run's own test.
    """
    untrained = protocol.untrained(run)
    loss = "loss_gender" if "age" in untrained else "loss_age" if "gender" in untrained else "loss"
    validated = [row for row in run.rows if row["split"] == "val" and row["step"] == run.step]
    return ENVIRONMENT.get_template("card.md.jinja").render(
        run=run,
        r=found,
        model=found["models"][-1],
        val_loss=validated[-1].get(loss) if validated else None,
        drawn=protocol.is_drawn(found["source"]["name"]),
        free=protocol.is_free(run),
        warnings=protocol.warnings(found, [run]),
        reported=[name for name in METRICS if found["models"][-1].get(name) is not None],
    )
