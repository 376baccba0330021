import copy
import dataclasses
import io
import re

import numpy as np
import pytest
from browser import MISSING, Browser, find
from PIL import Image
from reporting import everything

from agegender_jax import report
from agegender_jax.report.figures import groups

COMMAND = ["/somewhere/launch/evaluate.py", "--workdir=runs/ran", "--out=a b"]
SECTION = {
    "title": "Deletion",
    "text": ["Removed in the order of the map.", "Less is better."],
    "figures": {"explanations_ran.png": "Maps of ran"},
    "headings": ["method", "area"],
    "rows": [["grad_cam", "0.123 [0.101, 0.145]"]],
}


def noise(i):
    return np.random.default_rng(i).integers(0, 256, (200, 200, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole():
    """The page with everything in it, of the largest pictures: noise."""
    results, runs, examples, people = everything(picture=noise)
    drawn = report.draw(examples, people, results, runs)
    masks = {f"module {k}.1": np.random.default_rng(k).random((7, 150, 150)) for k in (1, 2, 3)}
    faces = [noise(i)[:150, :150] for i in range(7)]
    drawn["attention_ran.png"] = report.png(report.attention(faces, masks, ["female 3"] * 7))
    drawn["explanations_ran.png"] = drawn["groups.png"]
    return report.page(results, drawn, runs, COMMAND, [SECTION]), results, drawn


def test_every_figure_is_a_png_and_deterministic(whole):
    _, results, drawn = whole
    assert set(drawn) == {f"{name}.png" for name in (
        *("curves", "ages", "grid", "samples", "mistakes", "scores", "expected_age"),
        *("confusion_age", "confusion_gender", "reliability", "groups"),
        *("attention_ran", "explanations_ran"),
    )}  # fmt: skip
    for png in drawn.values():
        assert min(Image.open(io.BytesIO(png)).size) > 200
    assert report.png(groups.groups(results)) == drawn["groups.png"]


def page_of(count=24, source="faces", **changed):
    results, runs, *_ = everything(count, source=source)
    return report.page(results | changed, {}, runs)


def test_the_page_is_self_contained(whole):
    text, _, drawn = whole
    assert len(re.findall(r'<img src="data:image/(?:png|jpeg);base64,', text)) == len(drawn) == 13
    assert not re.findall(r'src="(?!data:)', text) and "@import" not in text and "url(" not in text
    assert not re.findall(r'<link [^>]*href="(?!data:,")', text)
    assert len(text) < 8_000_000
    assert 'style="max-width: 752px"' in text  # no figure is blown up


def test_numbers_of_the_page_are_those_of_the_results(whole):
    text, results, _ = whole
    for model in results["models"]:
        for name in ("age_accuracy", "gender_accuracy", "aabd", "cs5", "gender_auc"):
            assert f"{model[name]:.3f}" in text
            assert "[{:.3f}, {:.3f}]".format(*model["ci95"][name]) in text
        assert f"{model['age_mae']:.2f}" in text
        assert f"{model['aabd_median']:.3f}" in text
    for pair in results["paired"]:
        assert "{:+.3f} [{:+.3f}, {:+.3f}]".format(pair["aabd"]["difference"], *pair["aabd"]["ci95"]) in text
    for cell in results["groups"]["cells"]:
        heading = f"{cell['age']}, {cell['gender']}, {cell['race']}{' (small)' if cell['small'] else ''}"
        assert f'<th scope="row">{heading}</th><td>{cell["n"]}</td><td>{cell["age_accuracy"]:.3f}' in text


def test_the_page_has_settings_and_commands(whole):
    text, *_ = whole
    assert "gender_to_age: probs; views of an image: none</dd>" in text
    assert "num_epochs 7 (default 100)" in text and "train 4,800, val 600, test 600 images" in text
    assert "python -m launch.train --config=configs/quickstart.py:ran --workdir=runs/ran" in text
    assert "python -m launch.evaluate --workdir=runs/ran &#39;--out=a b&#39;" in text
    results, (first, second), *_ = everything(24)
    same = dataclasses.replace(second, run=first.run)  # several runs of one launch.baselines
    again = report.page(results, {}, [first, same]).rpartition("How to reproduce")[2]
    assert again.count("python -m launch.train") == 1


def test_additional_sections_are_shown(whole):
    text, *_ = whole
    assert "<h3>Deletion</h3>" in text and "grad_cam" in text and "<figcaption>Maps of ran</figcaption>" in text


def test_the_paper_is_compared_with_its_protocol(whole):
    text, *_ = whole
    assert "paper: Attention CNN" in text and "9,780 of UTKFace" in text and "so they cannot be compared" in text
    assert "not comparable with ours" in page_of()


def test_warnings():
    assert "Leakage was allowed" in page_of(allow_leak=True)
    results, runs, *_ = everything(24)
    assert "no temperature was applied" not in report.page(results, {}, runs)
    del results["models"][1]["calibration"]
    assert "resnet: no temperature was applied" in report.page(results, {}, runs)
    assert "Only 24 images" in page_of()
    assert "3 images are left out" in page_of(excluded_leaked=3) and "left out" not in page_of()


def changed_config(run, **fields):
    """The run with other config fields, as group__field=value."""
    config = copy.deepcopy(run.config)
    for name, value in fields.items():
        group, field = name.split("__")
        config[group][field] = value
    return dataclasses.replace(run, config=config)


def test_controls_and_untrained_heads_are_reported():
    results, (first, second), *_ = everything(24)
    runs = [changed_config(first, model__gender_to_age="shuffled"), changed_config(second, loss__age_weight=0.0)]
    text = report.page(results, {}, runs)
    assert "ran: a control experiment whose age head receives the shuffled gender." in text
    assert "resnet: the age head was not trained" in text
    text = report.page(results, {}, [first, second])
    assert "a control experiment" not in text and "was not trained" not in text


def test_heads_that_no_member_trained_have_not_collapsed():
    results, (first, second), *_ = everything(24)
    for model in results["models"]:
        model["collapsed"] = ["gender"]
    one, other = (changed_config(run, loss__gender_weight=0.0) for run in (first, second))
    text = report.page(results, {}, [one, other])
    assert "collapsed (gender)" not in text and "collapsed: " not in text and "none collapsed" in text
    text = report.page(results, {}, [one, second])
    assert "resnet: collapsed (gender)" in text and "ensemble: collapsed (gender)" in text
    assert "ran: collapsed (gender)" not in text and "collapsed: resnet, ensemble" in text


def test_the_protocol_names_the_run_where_runs_differ():
    results, (first, second), *_ = everything(24)
    same, different = (changed_config(second, data__image_size=size) for size in (200, 64))
    assert "<td>200 x 200 px</td>" in report.page(results, {}, [first, same])
    assert "<td>ran: 200 x 200 px; resnet: 64 x 64 px</td>" in report.page(results, {}, [first, different])


def test_the_text_on_temperatures_matches_the_results():
    text, without = page_of(), page_of(calibrated=False)
    assert "One temperature per head, fitted on val" in text and "No temperature was applied." not in text
    assert "One temperature per head, fitted on val" not in without and "No temperature was applied." in without
    results, runs, *_ = everything(24)
    fitted = runs[0].calibration
    for changed, text in (({"n": 0}, "val had too few images"), ({"step": 300}, "were fitted at step 300")):
        few = [dataclasses.replace(runs[0], calibration=fitted | changed), runs[1]]
        assert text in report.page(results, {}, few) and text not in report.page(results, {}, runs)


def test_the_effect_of_temperatures_is_shown(whole):
    text, results, _ = whole
    for model in results["models"]:
        for head in ("age", "gender"):
            change = model["calibration"][head]["change"]["nll"]
            assert "{:+.3f} [{:+.3f}, {:+.3f}]".format(change["difference"], *change["ci95"]) in text


def test_licence_of_training_data_and_initial_weights():
    assert "subject to their licence" in page_of()  # trained on synthetic faces, evaluated on others
    results, runs, *_ = everything(24)
    assert "subject to their licence" not in report.page(results, {}, runs)
    initialised = dataclasses.replace(runs[0], config=runs[0].config | {"init_from": "resnet18.pth"})
    assert "subject to their licence" in report.page(results, {}, [initialised, runs[1]])


def test_figures_are_embedded_in_the_smaller_format():
    dots = np.random.default_rng(0).integers(0, 2, (1700, 1700), np.uint8) * 255  # a bit each as PNG
    photo = np.random.default_rng(0).normal(128, 20, (500, 500, 3)).astype(np.uint8)
    for pixels, kind in ((dots, "png"), (photo, "jpeg")):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        results, runs, *_ = everything(24)
        assert f'src="data:image/{kind};base64' in report.page(results, {"groups.png": out.getvalue()}, runs)


def test_names_are_escaped():
    assert "<script>alert" not in page_of(source="<script>alert(1)</script>")


def test_a_page_for_one_image_and_for_none():
    assert "0 images of the test split" in page_of(0)
    results, runs, examples, people = everything(1)
    text = report.page(results, report.draw(examples, people, results, runs), runs)
    assert "1 images of the test split" in text and text.count("<img") > 8


def test_a_page_of_older_results():
    results, runs, *_ = everything(24)
    for model in results["models"]:
        del model["calibration"], model["age_mae"]
    del results["groups"]["cells"], results["groups"]["gaps"]
    assert "Not measured." in report.page(results, {}, runs)


@pytest.mark.skipif(not find(), reason=MISSING)
def test_a_browser_shows_it_on_phone_and_desktop_in_light_and_dark(whole, tmp_path):
    text, _, drawn = whole
    path = tmp_path / "report.html"
    path.write_text(text)
    with Browser(find(), tmp_path / "profile") as browser:
        for width, dark in ((360, False), (360, True), (1280, False), (1280, True)):
            seen = browser.open(path.as_uri(), width, 800, dark)
            assert browser.complaints() == [] and browser.requests() == [path.as_uri()]
            assert seen["inner"] == width and seen["document"] <= width
            assert len(seen["images"]) == len(drawn) and min(seen["images"]) > 0
            assert all(seen["alts"]) and all(seen["captions"]) and len(seen["links"]) == 10 and all(seen["links"])
            assert min(seen["scales"]) > 0.64  # 8-point letters, 12 pixels in the file, are 8 pixels high or more
            assert seen["dark"] == dark and (seen["ground"] == "rgb(255, 255, 255)") != dark
