"""The audit of a generated source with known flaws, and launch.audit as a user runs it."""

import csv
import importlib
import io
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import programs
import pytest
from browser import MISSING, Browser, find
from PIL import Image

from agegender_jax import config, csv_cells
from agegender_jax.data import image_stats, source_problems, splits
from agegender_jax.data.prepare import prepare
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from agegender_jax.run import audit as audit_command
from agegender_jax.run.workdir import Workdir
from benchmarks import audit_counts, result_files

DOCS = Path(__file__).parents[1] / "docs" / "audit.md"
DATE = "20170116174525125"
COPIES = ("a/25_0_0", "a/40_1_0", "a/25_0_1")  # one picture, three labels
BAD = {"a/who.png": "1 of the 4 parts", f"a/20_0_0_{DATE}.png": "truncated"}


def picture(seed: int, side: int = 64) -> Image.Image:
    """Smooth noise: no two seeds come near each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def save(folder: Path, name: str, image: Image.Image, **options) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)


def make_source(folder: Path) -> Path:
    for name in COPIES:
        save(folder, f"{name}_{DATE}.png", picture(0))
    for age in (30, 31):
        save(folder, f"a/{age}_1_2_{DATE}.png", picture(1))
    for subfolder in ("a", "b"):  # copied with its name
        save(folder, f"{subfolder}/50_1_2_{DATE}.png", picture(2))
    save(folder, f"a/60_0_0_{DATE}.png", picture(3))
    save(folder, f"a/62_1_0_{DATE}.jpg", picture(3), quality=60)
    save(folder, "a/61_3_20170109150557335.png", picture(4))
    save(folder, f"a/14_0_0_{DATE[1:]}.png", picture(5))
    save(folder, f"a/33_0_3_{DATE}.png", picture(6, side=20))
    save(folder, f"a/5_0_4_{DATE}.png", Image.new("RGB", (64, 64), "grey"))
    save(folder, f"a/110_1_0_{DATE}.png", picture(7))
    save(folder, "a/who.png", picture(8))
    (folder / "linked").symlink_to("a")
    (folder / f"a/20_0_0_{DATE}.png").write_bytes((folder / "a/who.png").read_bytes()[:-20])
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("audit") / "faces")


@pytest.fixture(scope="module")
def faces(source):
    return prepare(str(source), str(source.parent / "cache"), 1.0)


@pytest.fixture(scope="module")
def pairs(faces):
    return source_problems.find_pairs(faces.content, faces.dhash, faces.thumbnail)


@pytest.fixture(scope="module")
def done(source):
    """The finished program."""
    arguments = (f"--source={source}", f"--out={source.parent / 'out'}", f"--cache_dir={source.parent / 'cache'}")
    return programs.run("audit", *arguments)


@pytest.fixture(scope="module")
def result(source, done):
    assert done.returncode == 0, done.stderr
    return json.loads((source.parent / "out" / "audit.json").read_text())


def test_links_that_are_not_followed(result, source):
    assert result["left_out"] == [{"path": "linked", "reason": f"a link to the folder {source / 'a'}, not followed"}]


def test_duplicates_and_their_contradictions(result):
    exact = result["exact"]
    assert (len(exact["groups"]), exact["files"], exact["pairs"]) == (3, 7, 5)
    assert exact["differing"] == {"bucket": 2, "gender": 2, "race": 2, "any": 3}
    assert exact["years_apart"] == {"n": 5, "mean": pytest.approx((15 + 0 + 15 + 1 + 0) / 5), "largest": 15}
    assert exact["years_apart_counts"] == {"0": 2, "1": 1, "15": 2}
    first, second, third = exact["groups"]
    assert {row["file"] for row in first["files"]} == {f"{name}_{DATE}.png" for name in COPIES}
    assert (first["differ"], first["years_apart"]) == (["bucket", "gender", "race"], 15)
    assert (second["differ"], second["years_apart"]) == ([], 1) and (third["differ"], third["years_apart"]) == ([], 0)
    assert second["files"][0] == {"file": f"a/30_1_2_{DATE}.png", "age": "30", "gender": "female", "race": "Asian"}
    assert exact["recurring"] == {"age": "40", "gender": "female", "race": "White", "pairs": 2, "of": 2}


def test_near_duplicates_and_their_distance(source, result):
    near = result["near"]
    assert (len(near["groups"]), near["files"], near["pairs"]) == (1, 2, 1)
    assert near["differing"] == {"bucket": 0, "gender": 1, "race": 0, "any": 1}
    names = [f"a/60_0_0_{DATE}.png", f"a/62_1_0_{DATE}.jpg"]
    bits = []
    for name in names:
        grey = Image.open(source / name).convert("L").resize((17, 16), Image.Resampling.BILINEAR)
        bits.append([grey.getpixel((x + 1, y)) > grey.getpixel((x, y)) for y in range(16) for x in range(16)])
    distance = sum(a != b for a, b in zip(*bits, strict=True))
    assert sorted(near["groups"][0]["links"][0][:2]) == names and near["groups"][0]["links"][0][2] == distance
    assert near["distances"] == {str(distance): 1}


def test_contradicting_copies_are_listed_for_exclusion(source, result):
    with open(source.parent / "out" / "exclude.csv", newline="") as file:
        rows = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    young, *old = (f"{name}_{DATE}.png" for name in COPIES)
    assert set(rows) == {young, *old, f"a/60_0_0_{DATE}.png", f"a/62_1_0_{DATE}.jpg"}
    assert rows[old[0]] == f"copy labelled 25, male: {young}" or rows[old[0]] == f"copy labelled 25, male: {old[1]}"
    assert rows[young] == f"copy labelled 40, female: {old[0]}"


@pytest.mark.parametrize("name", ["exclude.csv", "splits.csv"])
def test_an_edited_table_stays(name, source, result, tmp_path, monkeypatch):
    def again(out, **changed):
        options = {"workdirs": [], "split_seed": 0, "cache_dir": str(source.parent / "cache"), "command": []}
        return audit_command.inspect(str(source), out=str(out), **options | changed)

    out = shutil.copytree(source.parent / "out", tmp_path / "out")
    before = (out / name).read_bytes()
    for seed in (1, 0):  # its own, of another split
        again(out, split_seed=seed)
    assert (out / name).read_bytes() == before
    for folder in (out, tmp_path):  # with an audit, and without one
        (folder / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"--out holds a file {name} that this command did not write"):
            again(folder)
        assert (folder / name).read_text() == "mine"
    written = json.loads((out / "audit.json").read_text())
    del written["written"]  # as version 0.2.0 wrote it
    (out / "audit.json").write_text(json.dumps(written))
    again(out)
    assert (out / name).read_bytes() == before


def test_the_split_by_content_and_the_groups_are_listed(source, faces, result):
    with open(source.parent / "out" / "splits.csv", newline="") as file:
        rows = {csv_cells.original(row["file"]): row for row in csv.DictReader(file)}
    assert [rows[file]["split"] for file in faces.file] == splits.assign(faces.group, faces.content, 0).tolist()
    assert [rows[file]["group"] for file in faces.file] == splits.group_ids(faces.group, faces.sha256).tolist()
    assert [rows[file]["sha256"] for file in faces.file] == faces.sha256.tolist() and len(rows) == len(faces.file)


def test_names_files_and_pictures(result):
    assert result["n"] == 14 and result["source"]["name"] == "faces"
    reasons = {row["file"]: row["reason"] for row in result["unusable"]}
    assert reasons.keys() == BAD.keys() and all(BAD[file] in reason for file, reason in reasons.items())
    assert {row["file"]: row["remark"] for row in result["remarks"]} == {
        "a/61_3_20170109150557335.png": "malformed, known to be 61, female, Indian",
        f"a/14_0_0_{DATE[1:]}.png": "date of 16 digits, not 17",
    }
    images = result["images"]
    assert images["sizes"] == [{"width": 64, "height": 64, "n": 13}, {"width": 20, "height": 20, "n": 1}]
    small = {"file": f"a/33_0_3_{DATE}.png", "width": 20, "height": 20}
    assert images["odd_size"] == images["tiny"] == [small]
    assert images["blank"] == [{"file": f"a/5_0_4_{DATE}.png", "spread": 0.0}]


def test_label_histograms(result):
    labels = result["labels"]
    ages = [5, 14, 25, 25, 30, 31, 33, 40, 50, 50, 60, 61, 62, 110]
    assert labels["age_years"] == {str(age): ages.count(age) for age in sorted(set(ages))}
    assert labels["age"] == {
        "0-9": 1,
        "10-19": 1,
        "20-29": 2,
        "30-39": 3,
        "40-49": 1,
        "50-59": 2,
        "60-69": 3,
        "110+": 1,
    }
    assert labels["gender"] == {"male": 6, "female": 8}
    assert labels["race"] == {"White": 6, "Black": 1, "Asian": 4, "Indian": 2, "Others": 1}
    assert {"age": "50-59", "gender": "female", "race": "Asian", "n": 2} in labels["cells"]
    assert sum(cell["n"] for cell in labels["cells"]) == 14


def test_label_noise_leaves_out_files_copied_with_their_names(result):
    noise = result["label_noise"]["exact"]
    assert (noise["gender_accuracy"]["pictures"], noise["gender_accuracy"]["pairs"]) == (2, 4)
    assert noise["gender_accuracy"]["disagreement"] == pytest.approx((2 / 3 + 0) / 2)
    assert noise["age_accuracy"]["ceiling"][0] == pytest.approx(1 - (2 / 3 + 0) / 2)
    assert noise["age_mae"]["floor"] == pytest.approx([(10 + 1) / 2 / 2, (10 + 1) / 2])
    assert result["label_noise"]["exact_without_recurring"]["gender_accuracy"]["disagreement"] == 0


def test_splits_keep_pairs_together_and_random_splits_do_not(faces, pairs, result):
    split = result["leakage"]["split"]
    assert split["across"] == {"exact": 0, "near": 0} and sum(split["sizes"].values()) == 14
    separated, leaked, cases = 0, 0, list(itertools.permutations(range(14), 2))  # one file to test, one to val
    for test, val in cases:
        drawn = np.full(14, "train")
        drawn[test], drawn[val] = "test", "val"
        separated += sum(drawn[i] != drawn[j] for i, j in pairs.all())
        leaked += any(test in pair for pair in pairs.all())
    assert split["random"]["all"] == {
        "pairs": pytest.approx(separated / len(cases)),
        "test_files": pytest.approx(leaked / len(cases)),
        "test": 1,
    }
    assert split["random"]["exact"]["pairs"] == pytest.approx(separated / len(cases) * 5 / 6)


def test_a_mirror_image_on_a_plain_background_is_a_near_duplicate_and_in_no_second_split(tmp_path):
    for i in range(20):
        save(tmp_path / "own", f"{20 + i}_0_0_{DATE}.png", picture(i))
    half = np.array(picture(30, side=170))
    half[:, :100] = 255
    for name, image in (("50_1_0", half), ("60_1_0", half[:, ::-1])):
        save(tmp_path / "own", f"{name}_{DATE}.png", Image.fromarray(image))
    for seed in range(3):
        result = inspect(str(tmp_path / "own"), tmp_path / f"out{seed}", split_seed=seed)
        assert result["near"]["pairs"] == 1 and result["near"]["mirrored"] == 1
        assert result["leakage"]["split"]["across"] == {"exact": 0, "near": 0}


def test_images_that_are_left_out_are_in_no_split():
    pairs = np.array([[0, 1], [2, 3], [0, 2], [0, 4]])
    assert source_problems.pairs_across(pairs, np.array(["train", "", "test", "", "train"])) == 1


def test_expected_leakage_of_random_splits_against_sampled_ones():
    pairs = np.array([*itertools.combinations(range(4), 2), (10, 11), (20, 21)])
    rng, separated, leaked = np.random.default_rng(0), [], []
    for _ in range(4000):
        split = rng.permutation(np.repeat(["test", "val", "train"], [5, 5, 40]))
        separated.append(source_problems.pairs_across(pairs, split))
        across = pairs[split[pairs[:, 0]] != split[pairs[:, 1]]]
        leaked.append(len({i for i in across.ravel().tolist() if split[i] == "test"}))
    expected = source_problems.random_split(pairs, 50)
    for name, drawn in (("pairs", separated), ("test_files", leaked)):
        assert expected[name] == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(4000))


@pytest.fixture
def run(tmp_path, faces):
    """A run's folder as training leaves it, with a chosen split, which `splits` may have named."""

    def make(assignment, splits=""):
        workdir = Workdir(tmp_path / f"run{splits}")
        workdir.path.mkdir()
        fields = config.default()
        fields.data.splits = splits
        workdir.write_config(config.to_dict(fields))
        workdir.write_faces(faces, assignment)
        return workdir

    return make


def test_a_run_that_leaks_is_detected(source, faces, pairs, run, tmp_path):
    assignment = np.where(np.arange(14) % 3 == 0, "test", "train")
    workdir = run(assignment)
    separated = [sum(assignment[i] != assignment[j] for i, j in kind) for kind in (pairs.exact, pairs.near)]
    assert sum(separated) > 0
    named = run(assignment, ".csv")
    run, named = inspect(source, tmp_path / "out", [str(workdir.path), str(named.path)])["leakage"]["runs"]
    assert (run["workdir"], run["across"]) == (str(workdir.path), dict(zip(("exact", "near"), separated, strict=True)))
    assert run["sizes"] == {"train": 9, "val": 0, "test": 5}
    seen = {int(i) for pair in pairs.all() for i in pair if "train" in assignment[pair]}
    seen |= set(np.flatnonzero(assignment == "train").tolist())
    own = splits.assign(faces.group, faces.content, 0)
    for name in ("train", "val", "test"):
        rows = np.flatnonzero(own == name).tolist()
        assert run["seen"][name] == {"n": len(rows), "seen": len(seen.intersection(rows))}
    assert named["seen"]["test"]["n"] == 5 and named["seen"]["train"] == {"n": 9, "seen": 9}
    assert (run["split_seed"], named["split_seed"]) == (0, None)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "by that run&#39;s seed 0)" in page and "by its data.splits)" in page


def inspect(source, out, workdirs=(), split_seed=0):
    cache = str(source.parent / "cache") if isinstance(source, Path) else str(out.parent / "cache")
    return audit_command.inspect(
        str(source or ""), out=str(out), workdirs=workdirs, split_seed=split_seed, cache_dir=cache, command=["audit"]
    )


def test_the_page_shows_every_group_and_is_self_contained(source, result):
    text = (source.parent / "out" / "audit.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text) and "@import" not in text and "url(" not in text
    for kind in ("exact", "near"):
        for group in result[kind]["groups"]:
            assert all(row["file"] in text for row in group["files"])
    assert "<b>40</b>" in text and "<b>female</b>" in text and "<b>31</b>" not in text
    assert all(file in text for file in BAD) and text.count("data:image/jpeg") == 3 + 2 + 1 + 1 + 1


@pytest.mark.skipif(not find(), reason=MISSING)
def test_a_browser_shows_it_on_phone_and_desktop_in_light_and_dark(source, result, tmp_path):
    path = source.parent / "out" / "audit.html"
    with Browser(find(), tmp_path / "profile") as browser:
        for width, dark in ((360, False), (360, True), (1280, False), (1280, True)):
            seen = browser.open(path.as_uri(), width, 800, dark)
            assert browser.complaints() == [] and browser.requests() == [path.as_uri()]
            assert seen["inner"] == width and seen["document"] <= width
            assert len(seen["images"]) == 2 + 8 and min(seen["images"]) > 0 and all(seen["alts"])
            assert all(seen["captions"]) and len(seen["links"]) == 7 and all(seen["links"])


def test_the_terminal_output(done, source):
    warning = f"WARNING: part of the source is left out: linked: a link to the folder {source / 'a'}, not followed"
    assert warning in done.stdout
    assert "3 groups, 7 files, 5 pairs" in done.stdout and "bucket 2, gender 2, race 2" in done.stdout
    assert str(source.parent / "out" / "audit.html") in done.stdout.replace("\n", "")


def test_every_field_is_documented(result):
    def keys(value):
        if isinstance(value, list):
            value = {"": value[0]} if value else {}
        if isinstance(value, dict):
            yield from (key for key in value if re.fullmatch("[a-z][a-z_0-9]*", key))
            for item in value.values():
                yield from keys(item)

    documented = set(re.findall(r"[a-z][a-z_0-9]*", " ".join(re.findall(r"`([^`]*)`", DOCS.read_text()))))
    assert set(keys({**result, "labels": {name: {} for name in result["labels"]}})) <= documented


def test_grouped_labels_together_with_years(tmp_path):
    years, groups = tmp_path / "years", tmp_path / "groups"
    rows = ["file,age,gender,race,service_test"]
    cases = [(25, "20-29", 0), (75, "more than 70", 0), (66, "more than 70", 1), (12, "3-9", 1)]
    for i, (age, group, _) in enumerate(cases):
        save(years, f"{age}_0_0_{DATE}.png", picture(i))
        save(groups, f"{i}.png", picture(i))
        rows.append(f"{i}.png,{group},Male,White,False")
    (groups / "labels.csv").write_text("\n".join(rows) + "\n")
    result = inspect(f"{years},{groups}", tmp_path / "out")
    by_file = {g["files"][1]["file"]: g for g in result["exact"]["groups"]}
    assert len(by_file) == 4 and result["source"]["name"] == "years+groups"
    by_group = {
        g["files"][0]["age"] if "groups" in g["files"][0]["file"] else g["files"][1]["age"] for g in by_file.values()
    }
    assert by_group == {"20-29", "more than 70", "3-9"}
    assert result["exact"]["differing"]["bucket"] == sum(case[2] for case in cases)
    assert result["exact"]["years_apart"] is None and result["label_noise"]["exact"]["age_mae"]["floor"] is None
    assert result["label_noise"]["exact"]["aabd"]["difference"] == pytest.approx(2 / 4)
    assert result["labels"]["age"]["70+"] == 2 and result["labels"]["age_years"]["75"] == 1
    result = inspect(str(groups), tmp_path / "out")
    assert result["labels"]["age_years"] == {} and result["exact"]["groups"] == []


def test_a_source_of_one_picture(tmp_path):
    save(tmp_path / "one", f"25_0_0_{DATE}.png", picture(0))
    result = inspect(str(tmp_path / "one"), tmp_path / "out")
    assert result["n"] == 1 and result["exact"]["pairs"] == result["near"]["pairs"] == 0
    assert result["label_noise"]["exact"]["gender_accuracy"]["ceiling"] is None and result["exact"]["recurring"] is None
    assert result["leakage"]["split"]["random"]["all"] == {"pairs": 0.0, "test_files": 0.0, "test": 0}


def test_links_hold_a_chain_together(faces):
    class Chain:
        content = np.array(["a", "b", "c", "c"])
        dhash = np.zeros((4, 256), np.uint8)

    Chain.dhash[1, :20], Chain.dhash[2:, :45] = 1, 1
    Chain.dhash = np.packbits(Chain.dhash, axis=1)
    assert source_problems.links(Chain, np.arange(4)) == [(0, 1, 20), (1, 2, 25)]


def test_no_size_is_odd_without_a_majority():
    sides = np.array([40, 50, 60, 60])
    assert image_stats.ImageStats(sides, sides, np.full(4, 50.0)).odd_sizes().tolist() == []
    sides[0] = 60
    assert image_stats.ImageStats(sides, sides, np.full(4, 50.0)).odd_sizes().tolist() == [1]


def test_a_missing_source_is_three_lines(tmp_path):
    programs.check(programs.run("audit", f"--source={tmp_path / 'nowhere'}", f"--out={tmp_path}"), 3, "no such data")


def test_errors(source, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "who.png").write_bytes(b"?")
    for error, message, arguments in (
        (ConfigError, "--source is missing", (None, tmp_path / "out")),
        (ConfigError, "--out cannot be used", (source, tmp_path / "file" / "out")),
        (CheckpointError, "no run in the workdir", (source, tmp_path / "out", [str(tmp_path / "nowhere")])),
        (DataError, "no images in the data source", (tmp_path / "empty", tmp_path / "out")),
        (DataError, "no usable image", (tmp_path / "bad", tmp_path / "out")),
    ):
        with pytest.raises(error, match=message):
            inspect(*arguments)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "bad_images.csv").read_text())))
    assert [row["file"] for row in rows] == ["who.png"]


def test_long_lists_are_cut_on_the_page(faces, result, monkeypatch):
    page = importlib.import_module("agegender_jax.report.audit.page")
    monkeypatch.setattr(page, "SHOWN", 1)
    text = page.page(result, {}, lambda file: np.zeros((300, 100, 3), np.uint8))
    assert "and 2 more, listed in audit.json" in text and text.count("data:image/jpeg") == 1 + 2 + 1 + 1 + 1
    shown = [file for file in BAD if file in text]
    assert len(shown) == 1 and text.count("and 1 more, listed in audit.json") == 2


DATA = Path(os.environ.get("AGEGENDER_DATA", ""))


@pytest.mark.skipif(not DATA.is_file(), reason="AGEGENDER_DATA names no crop_part1.tar")
def test_the_real_chips(tmp_path):
    result = inspect(str(DATA), tmp_path / "out")
    exact = result["exact"]
    assert (len(exact["groups"]), exact["files"], exact["pairs"]) == (77, 160, 89)
    assert (exact["differing"]["bucket"], exact["differing"]["gender"]) == (22, 12)
    assert exact["recurring"] == {"age": "21", "gender": "male", "race": "Others", "pairs": 11, "of": 31}
    assert result["leakage"]["split"]["across"] == {"exact": 0, "near": 0}
    measured, counts = result_files.read("audit_crop_part1"), audit_counts.counts(result)
    for name in ("source", "n", "unusable", "remarks", "exact", "near", "label_noise", "images", "labels"):
        assert counts[name] == measured[name], name
