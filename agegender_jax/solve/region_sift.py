"""The classifiers of Region-SIFT, fitted by scikit-learn: PCA, LDA and support vector machines as plain arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from agegender_jax.errors import DataError
from agegender_jax.models.region_sift import COMPONENTS, DISCRIMINANTS
from agegender_jax.solve import scores_to_logits
from agegender_jax.solve.elm import one_hot

C_PCA, C_LDA = 1.0, 0.3
OLDEST = 9  # buckets from 90 years up are one class, because they have too few examples
ABSENT = -30.0  # the linear discriminant of a bucket that no example has
NONE_RIGHT, ALL_RIGHT = -2.0, 1.0  # scores of a machine without examples of its class, or without others


def fit(
    train: np.ndarray,
    val: np.ndarray,
    targets: dict[str, tuple[np.ndarray, np.ndarray]],
    classifier: str,
    num_age_classes: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return the parameters of `models.region_sift.RegionSift`.

    PCA, LDA and SVMs see only the train split; the factors from the scores of SVMs to logits are fitted on val. The
    probability of people of 90 and more is divided between their buckets as in train.

    Args:
      train, val: descriptors [N, D].
      targets: "train" and "val" -> (age buckets int [N, 2], gender int [N]).
      classifier: see `models.region_sift`.
      note: receives a line for each fit.
      check: called before each fit that takes seconds; raises to stop.

    Raises:
      DataError: there is only one image, or there are not more images than classes, which linear discriminants need.
    """
    age, gender = targets["train"]
    bucket = np.minimum(age[:, 0], OLDEST)
    if len(train) < 2:
        raise DataError(f"Region-SIFT cannot be fitted to {len(train)} image", "the train split", "give more images")
    check()
    pca = _pca(train, seed)
    x, x_val = (_apply(pca, descriptors) for descriptors in (train, val))
    note(f"PCA: {len(x)} images, {COMPONENTS} components")
    check()
    if classifier == "lda":
        heads = {"age_head": _lda_scores(x, bucket, num_age_classes), "gender_head": _lda_scores(x, gender, 2)}
        _divide_oldest(heads["age_head"], "kernel", age[:, 0], 1.0)
        return {"pca": pca, **heads}
    gender_svm, score = _machine(x, x_val, gender, 2, 1.0, C_PCA, check)
    params = {"pca": pca, "gender_svm": gender_svm, "gender_scale": _gender_scale(score[:, 0], targets["val"][1])}
    note("SVM of gender")
    if classifier == "rbf":
        params["age_svm"], scores = _machine(x, x_val, bucket, num_age_classes, 1.0, C_PCA, check)
    elif classifier == "flat":
        layers, scores = _lda_and_machine(x, x_val, bucket, "all", np.ones(len(x), bool), num_age_classes, check)
        params |= layers
    else:
        gender_scale = params["gender_scale"]
        is_female = score[:, 0] * gender_scale["kernel"][0, 1] + gender_scale["bias"][1] > 0
        scores = np.zeros((len(x_val), num_age_classes))
        for label, kind in enumerate(("male", "female")):
            layers, own = _lda_and_machine(x, x_val, bucket, kind, gender == label, num_age_classes, check)
            params |= layers
            scores[is_female == label] = own[is_female == label]
    note("SVM of age")
    right = _merge_oldest(one_hot(*targets["val"], num_age_classes)[:, 2:])
    learned = np.isin(np.arange(right.shape[1]), bucket)
    fair = (right * learned).any(1)  # the other images of val are of buckets that train does not have
    factor = scores_to_logits.factor(scores[fair, : OLDEST + 1], right[fair])[0] if fair.any() else 1.0
    params["age_scale"] = np.float32(factor)
    for name in params:
        if name.startswith("age_svm"):
            _divide_oldest(params[name], "dual", age[:, 0], factor)
    return params


def _merge_oldest(right: np.ndarray) -> np.ndarray:
    """Return [N, OLDEST + 1] of 0 or 1 for all buckets: the last column holds for people of 90 and more."""
    return np.concatenate([right[:, :OLDEST], right[:, OLDEST:].max(1, keepdims=True)], 1)


def _divide_oldest(layer: dict[str, np.ndarray], weights: str, age: np.ndarray, scale: float) -> None:
    """Give the buckets above OLDEST its score, lowered by how much rarer they are in train.

    Args:
      layer: its array `weights` [*, A], and "bias" [A]; both are changed.
      age: buckets of train, int [N].
      scale: factor from scores to logits.
    """
    counts = np.bincount(age, minlength=len(layer["bias"]))[OLDEST:] + 1
    rarer = np.minimum(np.log(counts[1:] / counts[0]), 0) / scale
    layer[weights][:, OLDEST + 1 :] = layer[weights][:, OLDEST, None]
    layer["bias"][OLDEST + 1 :] = layer["bias"][OLDEST] + rarer


def _pca(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    from sklearn.decomposition import PCA

    fitted = PCA(min(COMPONENTS, *x.shape), svd_solver="randomized", random_state=seed).fit(x)
    size = np.sqrt(fitted.explained_variance_.sum() * (len(x) - 1) / len(x))
    kernel = np.zeros((x.shape[1], COMPONENTS))
    kernel[:, : len(fitted.components_)] = fitted.components_.T / size
    return _dense(kernel, -fitted.mean_ @ kernel)


def _is_enough(classes: np.ndarray) -> bool:
    """Return whether there are enough examples for linear discriminants, or only one class, which needs none."""
    return len(classes) > 0 and (len(np.unique(classes)) == 1 or len(classes) > len(np.unique(classes)))


def _lda(x: np.ndarray, classes: np.ndarray):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    if not _is_enough(classes):
        raise DataError(
            f"linear discriminants need more images than classes, and there are {len(x)} of {len(np.unique(classes))}",
            "the train split",
            "give more images, or use --config.model.classifier=rbf",
        )
    return LinearDiscriminantAnalysis(solver="svd").fit(x, classes)  # "eigen" with shrinkage misses the classes


def _lda_scores(x: np.ndarray, classes: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Return the linear discriminant functions of `count` classes as a dense layer."""
    kernel, bias = np.zeros((x.shape[1], count)), np.full(count, ABSENT)
    present = np.unique(classes)
    bias[present] = 0
    if len(present) > 1:
        fitted = _lda(x, classes)
        if len(present) == 2:
            kernel[:, present[1]], bias[present[1]] = fitted.coef_[0], fitted.intercept_[0]
        else:
            kernel[:, present], bias[present] = fitted.coef_.T, fitted.intercept_
    return _dense(kernel, bias)


def _lda_and_machine(x, x_val, classes, kind: str, chosen: np.ndarray, count: int, check):
    """Return the layers lda_<kind> and age_svm_<kind>, fitted on the chosen examples, and the scores of val.

    If there are too few chosen examples, all are used.
    """
    chosen = chosen if _is_enough(classes[chosen]) else np.ones(len(x), bool)
    kernel, bias = np.zeros((x.shape[1], DISCRIMINANTS)), np.zeros(DISCRIMINANTS)
    if len(np.unique(classes[chosen])) > 1:
        fitted = _lda(x[chosen], classes[chosen])
        used = min(fitted.scalings_.shape[1], len(fitted.classes_) - 1)
        kernel[:, :used] = fitted.scalings_[:, :used]
        bias = -fitted.xbar_ @ kernel
    lda = _dense(kernel, bias)
    z, z_val = _apply(lda, x), _apply(lda, x_val)
    gamma = 1 / max(DISCRIMINANTS * float(z[chosen].var()), 1e-12)  # scikit-learn's "scale"
    machine, scores = _machine(z, z_val, classes, count, gamma, C_LDA, check, chosen)
    return {f"lda_{kind}": lda, f"age_svm_{kind}": machine}, scores


def _machine(x, x_val, classes, count: int, gamma: float, c: float, check, chosen=None):
    """Return the arrays of a `KernelMachine` and its scores of val [N, K]: one machine, or one for each class.

    Args:
      chosen: bool [N], the examples to fit; all if None.
    """
    from sklearn.svm import SVC

    chosen = np.ones(len(x), bool) if chosen is None else chosen
    labels = [1] if count == 2 else range(count)
    dual, bias = np.zeros((len(x), len(labels))), np.full(len(labels), NONE_RIGHT if count > 2 else 0.0)
    scores = np.tile(bias, (len(x_val), 1))
    rows = np.flatnonzero(chosen)
    for column, label in enumerate(labels):
        is_label = classes[rows] == label
        check()
        if is_label.any() and not is_label.all():
            svc = SVC(C=c, gamma=gamma, cache_size=500).fit(x[rows], is_label)
            dual[rows[svc.support_], column], bias[column] = svc.dual_coef_[0], svc.intercept_[0]
            scores[:, column] = svc.decision_function(x_val) if len(x_val) else scores[:, column]
        elif is_label.any():
            bias[column], scores[:, column] = ALL_RIGHT, ALL_RIGHT
    arrays = {"support": x, "dual": dual, "bias": bias, "gamma": np.array(gamma)}
    return {name: value.astype(np.float32) for name, value in arrays.items()}, scores


def _gender_scale(score: np.ndarray, gender: np.ndarray) -> dict[str, np.ndarray]:
    """Return [1, 2] and [2] of logits (0, a score + c)."""
    a, c = scores_to_logits.line(score, gender)
    return _dense(np.array([[0, a]]), np.array([0, c]))


def _dense(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _apply(layer: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]
