"""Score the shipped nets and the averages of the default's nets on val, without and with mirror images.

python -m benchmarks.fairface_split --source=aligned/fairface_10k,aligned/fairface_10k_25k --out=fairface_split.csv
python -m benchmarks.weight_choices --source=aligned/fairface_10k,aligned/fairface_10k_25k --splits=fairface_split.csv

The default was chosen by these scores. Writes results/weight_choices.json, and prints its table.
"""

import functools
import itertools
import sys

from absl import app, flags

from agegender_jax import Predictor, ensemble, weights
from agegender_jax import config as config_lib
from agegender_jax.cli.exits import guard
from agegender_jax.metrics import SCORES
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.host import ynnpack
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import provenance
from agegender_jax.structs import Probs
from benchmarks import machine, open_group, result_files, tables

SOURCE = flags.DEFINE_string("source", None, "Aligned chips, as data.source.", required=True)
SPLITS = flags.DEFINE_string("splits", None, "CSV with the split of each chip, as data.splits.", required=True)


def main(_):
    ynnpack.avoid()  # as the commands do
    config = config_lib.default()
    config.data.source, config.data.splits = SOURCE.value, SPLITS.value
    with Progress() as progress:
        dataset = load_dataset(config, progress.prepare)
    age, gender = dataset.targets("val")
    open_from = weights.card(weights.DEFAULT).calibration["open_from"]
    age = open_group.join_labels(age, open_from)
    cards, averaged = map(weights.card, weights.names()), weights.card(weights.DEFAULT).members
    nets = [card.name for card in cards if card.members is None]
    chosen = [(net,) for net in nets]
    chosen += [of for count in range(2, len(averaged) + 1) for of in itertools.combinations(averaged, count)]
    rows = []
    for views in ("none", "flip"):
        probs = {}
        for net in nets:
            predictor = Predictor(weights=net, detector="none", batch_size=64, views=views)
            (size,) = predictor.sizes
            found = predictor.probs({size: dataset.prepared.images(size)[dataset.indices("val")]})
            probs[net] = Probs(open_group.join(found.age, open_from), found.gender)
        for of in chosen:
            scores = ensemble.evaluate([probs[net] for net in of], age, gender)
            rows.append({"nets": of, "views": views, "n": len(gender), **{name: scores[name] for name in SCORES}})
    made_by = provenance.made_by(sys.argv) | {"command": __doc__.splitlines()[3], "machine": machine.machine()}
    result_files.write(result_files.RESULTS / "weight_choices.json", {"rows": rows, "made_by": made_by})
    print(tables.weight_choices(rows))


if __name__ == "__main__":
    app.run(lambda argv: guard(functools.partial(main, argv)))
