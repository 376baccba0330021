"""Figures and the report's section of explanations, of maps that no net has computed."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from agegender_jax import explain, report
from agegender_jax.explain import maps
from agegender_jax.explain.attention import AttentionMaps
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.report import overlay
from agegender_jax.report.figures import relevance
from agegender_jax.structs import Probs


def example_maps(count=2, size=32, modules=("stage1_att1", "stage3_att2")):
    """Random maps of a net with two attention modules."""
    rng = np.random.default_rng(0)
    probs = Probs(rng.dirichlet(np.ones(12), count), rng.dirichlet(np.ones(2), count))
    attributions = {m: rng.normal(size=(count, size, size)) for m in explain.METHODS[:3]}
    attributions["grad_cam"] = np.abs(attributions["grad_cam"])
    masks = rng.random((count, size, size))
    attention = [
        AttentionMaps(m, (4, 4), masks, np.stack([masks] * 4, 1), np.arange(count * 4).reshape(-1, 4)) for m in modules
    ]
    attention[-1] = attention[-1].replace(mean=np.full_like(masks, 0.5))
    targets = {head: np.asarray(getattr(probs, head)).argmax(-1) for head in explain.HEADS}
    return maps.Maps(probs, targets, tuple(attention), {head: attributions for head in explain.HEADS}, {})


@pytest.mark.parametrize("areas", [False, True])
def test_no_title_is_cut_off_or_covers_another(areas, monkeypatch):
    figures = []
    monkeypatch.setattr(overlay, "png", lambda figure: figures.append(figure) or b"")
    summary, image = example_maps(), np.zeros((2, 32, 32, 3), np.uint8)
    names = [*summary.for_head("age"), "random"]
    areas = {"areas": {name: {"deletion": 0.12, "insertion": 0.34} for name in names}} if areas else {}
    answer = {
        "age": {"class": "100-109", "probability": 1.0} | areas,
        "gender": {"class": "female", "probability": 0.5},
    }
    overlay.overlays(image[0], summary, 0, answer)
    overlay.explanation_grid(image, summary, ["male 100-109", "female 70-119"])
    for figure in figures:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        width, height = figure.bbox.size
        axes = [axis for part in figure.subfigs for axis in part.axes]
        boxes = [axis.title.get_window_extent(renderer) for axis in axes if axis.get_title()]
        assert len(boxes) in (18, 14)
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert "label:\nfemale 70-119" in [axis.get_title() for part in figure.subfigs for axis in part.axes]


def relevance_scores(method, *, misses=False):
    """Scores of a net's map of each head, in the form of `map_scores.score`."""

    def estimate(mean, low, high):
        return {"mean": mean, "ci95": (low, high)}

    random = {"deletion": estimate(0.2, 0.1, 0.3), "insertion": estimate(0.3, 0.2, 0.4)}
    row = {
        "deletion": estimate(0.123, 0.1, 0.2),
        "insertion": estimate(0.345, 0.3, 0.4),
        "minus_random": {"deletion": estimate(-0.077, -0.1, -0.05), "insertion": estimate(0.045, -0.01, 0.1)},
        "localisation": {"share": estimate(0.52, 0.5, 0.6), "area": 0.33, "minus_area": estimate(0.19, 0.17, 0.27)},
        "sanity": {"last": 0.61 if misses else 0.2, "passes": not misses, "n": 2, "limit": 0.5},
    }
    shares = {"pixels": 0.4, "absorbed": 0.7, "feed": 0.0, "error": 0.01, "worst": 0.02}
    account = {f"{name}_account": shares for name in {"lrp", method}}
    maps = {"lrp": {}} | {method: row, "random": random}  # the epsilon rule of a net with both is not shown
    return {head: {"maps": maps} | account for head in explain.HEADS}


def test_the_relevance_of_several_nets_in_one_figure(monkeypatch):
    """The composite rules are drawn where a net has them; each net's pictures have its own size."""
    panels, blended = [], overlay.blended
    monkeypatch.setattr(overlay, "blended", lambda panel: panels.append(panel) or blended(panel))
    both, one = example_maps(), example_maps(size=48)
    both.attributions["age"]["lrp_composite"] = both.attributions["age"]["lrp"] + 1
    nets = {
        "vgg16": report.NetRelevance(np.zeros((2, 32, 32, 3), np.uint8), both, relevance_scores("lrp_composite")),
        "resnet18": report.NetRelevance(np.ones((2, 48, 48, 3), np.uint8), one, relevance_scores("lrp")),
    }
    target, other = both.targets["age"]
    wrong = (other - 1) % 12
    assert wrong < target  # so the second picture comes first
    age = np.array([[target, target], [wrong, wrong]])
    figure = relevance.draw(nets, "age", age, np.array([1, 0]))
    np.testing.assert_array_equal(panels[0].values, both.attributions["age"]["lrp_composite"][1])
    np.testing.assert_array_equal(panels[3].values, one.attributions["age"]["lrp"][0])
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    main, bar = figure.axes
    texts = [text for text in (*main.texts, *bar.texts, *bar.get_xticklabels()) if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    width, height = figure.bbox.size
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    shown = [text.get_text() for text in texts]
    for line in ("LRP, composite", "LRP", "deletion 0.123 *", "   random map 0.200", "insertion 0.345", "vgg16"):
        assert line in shown, line
    assert "in true cues 52 % *" in shown and "   their area 33 %" in shown
    first = f"{AGE_BUCKETS[target]}, p = {both.probs.age[0, target]:.2f}"
    weights = [text.get_weight() for text in texts if text.get_text() == first]
    assert weights == ["normal", "normal"]
    weights = [text.get_weight() for text in texts if ", p = " in text.get_text() and text.get_text() != first]
    assert weights == ["bold", "bold"]


def test_the_section_on_the_relevance_of_several_nets():
    members = {"vgg16": relevance_scores("lrp_composite"), "resnet18": relevance_scores("lrp", misses=True)}
    assert report.relevance_section({"n": 2, "members": {"vgg16": members["vgg16"]}}) is None
    section = report.relevance_section({"n": 2, "members": members})
    assert list(section["figures"]) == ["relevance_age.png", "relevance_gender.png"]
    assert all(report.is_figure(name) for name in section["figures"])
    first, *_, last = section["rows"]
    assert len(section["headings"]) == len(first) == len(last)
    assert first[:2] == ["vgg16, age", "composite"] and last[:2] == ["resnet18, gender", "epsilon"]
    assert "0.123 (0.200)" in first and "-0.077 [-0.100, -0.050]" in first
    assert "0.520 (0.330)" in first and "70 %" in first
    assert "0.20" in first and "0.61 (fails)" in last


def test_a_constant_mask_is_labelled_as_such():
    summary = example_maps()
    assert overlay._range(summary.attention[1].mean[0]) == "constant 0.50"
    assert (summary.for_head("age")["attention_stage3_att2"] == 1).all()
    picture = np.zeros((32, 32, 3), np.uint8)
    png = overlay.overlays(picture, summary, 1, {"age": {"class": "0-9", "probability": 0.3}})
    assert Image.open(io.BytesIO(png)).format == "PNG"
