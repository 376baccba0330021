"""SIFT of facial regions with a layered support vector machine, after Kim et al. 2018 ([21] of arXiv 2010.03791).

agegender train --config=region_sift:lda --config.data.source=crop_part1.tar

Needs pip install 'agegender-jax[baselines]'.

Variants after a colon: layered (the default: gender first, then an age classifier for that gender), flat (one age
classifier), rbf (RBF SVMs of both heads on the PCA), lda (linear discriminants of both heads).

What is known is landmark-aligned regions, SIFT, PCA and LDA, and the layered SVM; regions, sizes, kernels and constants
are our choices (agegender_jax/models/region_sift.py). The images must be aligned chips. Result on `crop_part1` (test, n
= 780, seed 0): lda 0.583 age, 0.845 gender, AABD 0.567 in two minutes of CPU time. On another draw of the split, a
prototype had age and gender accuracies of 0.594 and 0.829 (lda), 0.574 and 0.842 (rbf), 0.578 and 0.831 (flat), and
0.546 (layered, age).
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.model.update(name="region_sift", gender_to_age="none")
    kinds = {
        "layered": lambda c: c.model.update(classifier="layered"),
        "flat": lambda c: c.model.update(classifier="flat"),
        "rbf": lambda c: c.model.update(classifier="rbf"),
        "lda": lambda c: c.model.update(classifier="lda"),
    }
    return config_lib.apply_variants(config, variant, kinds)
