"""MODEL_CARD.md: a description of a trained net, in the format of model hubs, from the files of its workdir."""

from collections.abc import Mapping

from agegender_jax.report.jinja_environment import ENVIRONMENT
from agegender_jax.report.runs import Run, is_synthetic
from agegender_jax.report.warnings import warnings

METRICS = ("age_accuracy", "gender_accuracy", "aabd", "age_mae")


def card(run: Run, results: Mapping) -> str:
    """Return the model card as Markdown. Each section names the file that its numbers come from.

    Args:
      results: results.json of the run's own test.
    """
    untrained = run.untrained_heads()
    loss = "loss_gender" if "age" in untrained else "loss_age" if "gender" in untrained else "loss"
    validated = [row for row in run.rows if row["split"] == "val" and row["step"] == run.step]
    row = validated[-1] if validated else {}
    return ENVIRONMENT.get_template("model_card.md.jinja").render(
        run=run,
        r=results,
        model=results["models"][-1],
        val_loss=row.get("calibrated_loss", row.get(loss)),
        calibrated="calibrated_loss" in row,
        synthetic=is_synthetic(results["source"]["name"]),
        free=run.is_free(),
        warnings=warnings(results, [run]),
        reported=[name for name in METRICS if results["models"][-1].get(name) is not None],
    )
