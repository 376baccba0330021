"""launch.baselines: which systems, their configs, resumption, the page; solved systems as runs; what is refused."""

import contextlib
import json
import types

import jax
import numpy as np
import pytest
import small_run

from agegender_jax import configs, extras, files, metrics, models, weights
from agegender_jax.config import default, validate
from agegender_jax.configs import baselines as common
from agegender_jax.errors import ConfigError, DataError, Stopped
from agegender_jax.run import checks, train
from agegender_jax.run.baselines import command, json_rows, markdown_table, speed, systems
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.training import solve, solve_head
from agegender_jax.run.workdir import Workdir, write_csv, write_json
from agegender_jax.solve import elm
from agegender_jax.solve import region_sift as fit_sift
from agegender_jax.structs import Probs
from benchmarks import result_files


def test_every_system_has_a_valid_config(tmp_path):
    checked = command.check(systems.SYSTEMS, common.get_config("quick"), Workdir(tmp_path))
    for config in checked.values():
        validate(config)
    assert len(checked) == len(systems.SYSTEMS)
    mixed = common.get_config("quick")
    mixed.augment.mixup, mixed.optimizer.layer_decay, mixed.elm.joint_lr = 0.2, 0.5, 0.01
    without = command.check(systems.SYSTEMS, mixed, Workdir(tmp_path))  # only the rows that have them keep them
    assert without["resnet18"].augment.mixup == 0.2 and without["elm_joint"].elm.joint_lr == 0.01
    assert without["ridge"].augment.mixup == 0 and without["local_dnn"].optimizer.layer_decay == 1
    assert not any(checks.lacking(config) for config in without.values())
    own = common.get_config("quick")
    own.data.update(dict.fromkeys(("train_on", "exclude", "splits"), "of the own source"))
    drawn = command.check([s for s in systems.SYSTEMS if s.name == "drawn_faces"], own, Workdir(tmp_path))
    assert all(drawn["drawn_faces"].data[field] == "" for field in ("train_on", "exclude", "splits"))
    assert {config.model.name for config in checked.values()} >= set(models.systems())
    cited = " ".join(system.cites for system in systems.SYSTEMS)
    assert all(f"[{n}]" in cited for n in (15, 16, 17, 18, 19, 20, 21, 22, 27))
    assert checked["elm"].init_from == str(tmp_path / "caffenet")
    faces, net = checked["faces_head"], weights.card(checked["faces_head"].init_from).config["model"]
    assert (faces.model.name, faces.model.width) == (net["name"], net["width"]) and faces.optimizer.freeze == 5
    scratch = checked["faces_scratch"]
    assert scratch.model == faces.model and not scratch.init_from and not scratch.optimizer.freeze
    assert checked["plain_cnn"].model.width == 1  # 388,896 parameters below the head
    critic, none = checked["frequency_critic"].model, checked["frequency_critic_none"].model
    assert (critic.critics, none.critics, none.alternate) == ("frequency", "none", critic.alternate)


def test_chosen_systems_include_the_systems_that_they_need():
    assert [system.name for system in command.choose(["elm"])] == ["resnet18", "caffenet", "elm"]
    assert len(command.choose([])) == len(systems.SYSTEMS)
    with pytest.raises(ConfigError) as error:
        command.choose(["region_sift_lad"])
    assert "region_sift_lda" in error.value.fix


def test_the_folder_of_other_systems_is_refused(tmp_path):
    config, folder = common.get_config("quick"), Workdir(tmp_path)
    command.check_same(folder, config)
    files.replace(tmp_path / "common.json", files.to_json(config.to_dict()))
    command.check_same(folder, config)
    config.num_epochs = 7
    with pytest.raises(ConfigError, match="another config: num_epochs"):
        command.check_same(folder, config)
    config.num_epochs, config.seed = 6, 1
    with pytest.raises(ConfigError, match="another config: seed: 0 -> 1"):
        command.check_same(folder, config)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"num_epochs": 2}'])
def test_a_damaged_record_of_the_fields_is_an_error(tmp_path, content):
    (tmp_path / command.COMMON).write_text(content)
    with pytest.raises(ConfigError, match="cannot be read") as error:
        command.check_same(Workdir(tmp_path), common.get_config("quick"))
    assert error.value.where == str(tmp_path / command.COMMON) and "delete that file" in error.value.fix


def faces(count=40):
    """A dataset of `count` test images, 20 in each age bucket 0 and 1, every second one female."""
    prepared = types.SimpleNamespace(
        file=np.array([f"{i:03}.jpg" for i in range(count)]),
        group=np.arange(count),
        age_years=np.arange(count) // 20 * 10,
        age=np.repeat(np.arange(count) // 20, 2).reshape(-1, 2),
        gender=np.arange(count) % 2,
        name="faces",
        fingerprint="f" * 64,
    )
    return Dataset(prepared, np.array(["test"] * count))


def finish(folder, dataset, wrong=(), heads=("age", "gender")):
    """Write the files of a finished run that predicts all faces right but the first `wrong` of each score."""
    run, count = Workdir(folder), len(dataset.assignment)
    config = default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.image_size = 32
    for head in {"age", "gender"} - set(heads):
        config.loss[f"{head}_weight"] = 0.0
    run.path.mkdir(parents=True)
    run.write_config(config.to_dict())
    wrong_ages, wrong_genders = wrong or (0, 0)
    age, female = np.full((count, 12), 0.01), np.where(dataset.prepared.gender, 0.9, 0.1)
    age[np.arange(count), dataset.prepared.age[:, 0]] = 0.89
    age[np.arange(wrong_ages), :2] = 0.3, 0.6  # less sure, so that an average of right and wrong is right
    female[:wrong_genders] = np.where(dataset.prepared.gender[:wrong_genders], 0.4, 0.6)
    probs = Probs(age, np.stack([1 - female, female], 1))
    rows = [[name, *ages, p] for name, ages, p in zip(dataset.prepared.file, age, female, strict=True)]
    write_csv(run.predictions, ("file", *(f"p_age_{k}" for k in range(12)), "p_female"), rows)
    (scored,) = metrics.scored([probs], [None], *dataset.targets("test"), dataset.prepared.age_years)
    write_json(run.results, {"models": [{"step": 4, "parameters": 10} | scored]})
    write_json(run.calibration, {})
    row = {"split": "train", "step": 4, "images_per_second": 64.0}
    run.metrics.write_text(files.to_json(row) + "\n")
    write_json(run.path / speed.FILE, {"images_per_second": 100.0, "batch": 64})
    return run


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """baselines.json of three finished systems and a run outside the table."""
    folder, dataset = tmp_path_factory.mktemp("systems"), faces()
    finish(folder / "resnet18", dataset, (10, 0))
    finish(folder / "ran56", dataset, (4, 2))
    finish(folder / "plain_cnn", dataset, (0, 8), heads=("gender",))
    best = finish(folder / "other" / "best", dataset)
    return json_rows.results(command.choose([]), Workdir(folder), dataset, [best])


def test_every_row_is_compared_with_our_nets_their_ensemble_and_other_runs(content):
    rows = {row["name"]: row for row in content["systems"]}
    assert list(rows) == ["resnet18", "ran56", "ensemble", "plain_cnn"]
    assert "elm" in content["missing"] and not {"ran56", "drawn_faces"} & set(content["missing"])
    assert content["references"] == ["resnet18", "ran56", "ensemble", "best"]
    for name, row in rows.items():
        assert set(row["differences"]) == set(content["references"]) - {name}
    minus_ran = rows["resnet18"]["differences"]["ran56"]
    assert minus_ran["age_accuracy"]["difference"] == pytest.approx(-6 / 40)
    assert minus_ran["gender_accuracy"]["difference"] == pytest.approx(2 / 40)
    assert minus_ran["age_accuracy"]["ci95"][1] < 0 < minus_ran["aabd"]["ci95"][0]
    assert rows["plain_cnn"]["differences"]["best"]["age_accuracy"] is None


def test_the_ensemble_has_intervals_sizes_and_speed(content):
    row = content["systems"][2]
    assert row["age_accuracy"] == 36 / 40 and row["gender_accuracy"] == 1 and row["age_one_off"] == 1
    low, high = row["ci95"]["age_accuracy"]
    assert low < 36 / 40 < high and set(row["ci95"]) == set(json_rows.HEAD_OF)
    assert row["images_per_second"] == 50 and row["parameters"] == 20 and row["seconds"] > 0


def test_the_page_lists_scores_and_differences(content):
    text = markdown_table.render(content)
    assert "| resnet18 | this library | scratch | 10 |" in text and "| 100 | 0.750 [" in text
    assert "| plain_cnn | [27], 2019 |" in text and "|  |  | 0.800 [" in text  # without a score of age
    assert "Paired differences to best (levi_hassner, width 0.125, 32 px):" in text
    assert "| resnet18 | -0.150 [-" in text.partition("Paired differences to ran56:")[2]
    assert "Not finished yet: levi_hassner, caffenet," in text
    assert "| plain_cnn | a stand-in: the method is not known; gender alone |" in text


@pytest.mark.parametrize("name", ["baselines", "baselines_crop_part1"])
def test_the_tables_are_what_was_measured(name):
    text = markdown_table.render(result_files.read(name))
    tables = text.partition("\n\n")[2].partition("\n\n| system | differs")[0]
    assert tables.count("Paired differences to ") >= 3
    assert tables in (result_files.RESULTS.parents[1] / "docs" / "baselines.md").read_text()


def test_runs_to_compare_with_are_finished_and_of_the_same_split(tmp_path):
    dataset = faces()
    finish(tmp_path / "age", dataset, heads=("age",))
    with pytest.raises(ConfigError, match="has only one head"):
        json_rows.others([Workdir(tmp_path / "age")], dataset)
    with pytest.raises(ConfigError, match="not finished") as error:
        json_rows.others([Workdir(tmp_path / "absent")], dataset)
    assert error.value.where == f"--against={tmp_path / 'absent'}" and "data.split_seed" in error.value.fix
    own = finish(tmp_path / "one", dataset), finish(tmp_path / "two", dataset, (2, 2))
    assert list(json_rows.others(own, dataset)) == ["one", "two", "one + two"]
    with pytest.raises(DataError, match="other images") as error:
        json_rows.others(own[:1], faces(20))
    assert "data.split_seed" in error.value.fix


def test_systems_that_were_trained_on_another_split_are_refused(tmp_path, monkeypatch):
    system = Workdir(tmp_path / "plain_cnn")
    (system.checkpoints / "1").mkdir(parents=True)
    rows = [(file, "train", "00" * 32) for file in faces().prepared.file]
    write_csv(system.splits, ("file", "split", "dhash"), rows)
    monkeypatch.setattr(command.dataset, "load_dataset", lambda *args: faces())
    with pytest.raises(DataError, match="40 images are in another split than when the run began"):
        command.baselines(common.get_config("quick"), str(tmp_path), ["resnet18"], [])


@pytest.mark.parametrize("changed", ["model", "num_epochs"])
def test_finished_systems_of_another_config_are_refused(changed, tmp_path, monkeypatch):
    """Even if the file with the common fields is gone; a folder of systems may be moved."""
    monkeypatch.setattr(command.dataset, "load_dataset", lambda *args: faces())
    config = common.get_config("quick")
    systems_of = {system.name: system for system in command.choose(["elm"])}
    trained = Workdir(tmp_path / "elm")
    finish(trained.path, faces())
    own = systems.config_of(systems_of["elm"], config, Workdir(tmp_path / "moved"))
    trained.write_config(own.to_dict())
    checks.same_recipe(trained, systems.config_of(systems_of["elm"], config, Workdir(tmp_path)))
    other = own.copy_and_resolve_references()
    other.update({"num_epochs": own.num_epochs + 1} if changed == "num_epochs" else {"model": {"width": 0.5}})
    trained.write_config(other.to_dict())
    with pytest.raises(ConfigError, match="another config: (model.width: 0.5 -> 0.125|num_epochs: 7 -> 6)"):
        command.baselines(config, str(tmp_path), ["elm"], [])


def test_a_source_without_test_images_is_refused_before_training(tmp_path, monkeypatch):
    no_test = types.SimpleNamespace(prepared=faces().prepared, indices=lambda split: [])
    monkeypatch.setattr(command.dataset, "load_dataset", lambda *args: no_test)
    monkeypatch.setattr(command.train, "fit", lambda *args: pytest.fail("trained"))
    with pytest.raises(DataError, match="the test split is empty"):
        command.baselines(common.get_config("quick"), str(tmp_path), ["resnet18"], [])


def test_rows_that_started_from_a_net_that_saw_test_images_are_marked(content, tmp_path):
    dataset = faces()
    runs = [finish(tmp_path / name, dataset) for name in ("resnet18", "ran56", "other")]
    assert "seen images" not in markdown_table.render(content)
    for run in runs[1:]:
        write_json(run.results, json.loads(run.results.read_text()) | {"allow_leak": True})
    content = json_rows.results(command.choose([]), Workdir(tmp_path), dataset, runs[2:])
    marked = {row["name"]: row.get("allow_leak") for row in content["systems"]}
    assert marked == {"resnet18": False, "ran56": True, "ensemble": None} and content["against"]["other"]["allow_leak"]
    assert "a net that has seen images of the test split: ran56, other." in markdown_table.render(content)


def test_progress_without_steps_names_no_epoch(capsys):
    with Progress() as progress:
        progress.row({"split": "val", "step": 1, "loss": 1.0, "age_accuracy": 0.5, "gender_accuracy": 1, "aabd": 0.5})
    assert capsys.readouterr().out.startswith("step 1  val")


def test_configs_that_solved_systems_refuse(tmp_path, monkeypatch):
    config = configs_of("cnn_elm")
    with pytest.raises(ConfigError, match="the elm head needs a trained net"):
        train.fit(config, str(tmp_path / "run"), [])
    config = configs_of("region_sift")
    config.init_from = str(tmp_path)
    with pytest.raises(ConfigError, match="does not start from other weights"):
        train.fit(config, str(tmp_path / "run"), [])
    config.init_from = ""
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "sklearn")
    with pytest.raises(ConfigError) as error:
        train.fit(config, str(tmp_path / "run"), [])
    assert "pip install 'agegender-jax[baselines]'" in error.value.fix
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fit", ["rbf", "layered", "lda"])
def test_a_fit_stops_between_its_parts(fit):
    draw, parts = np.random.default_rng(0), []
    x, age, gender = draw.normal(size=(60, 8)), draw.integers(0, 4, (60, 1)).repeat(2, 1), draw.integers(0, 2, 60)
    targets = {"train": (age, gender), "val": (age[:10], gender[:10])}
    arguments = x, x[:10], targets, fit, 12

    def stop_at(count):
        def check():
            parts.append(count)
            if len(parts) == count:
                raise Stopped(75, doing="solving")

        return check

    fit_sift.fit(*arguments, check=stop_at(0))
    assert len(parts) == {"rbf": 2 + 1 + 12, "layered": 2 + 1 + 2 * 12, "lda": 2}[fit]
    for count in (1, 2, len(parts)):
        parts.clear()
        with pytest.raises(Stopped):
            fit_sift.fit(*arguments, check=stop_at(count))


def test_few_images_of_a_gender_or_of_all():
    """A gender with too few images for discriminants gets the age classifier of all; all too few is an error."""
    draw = np.random.default_rng(0)
    x, age = draw.normal(size=(30, 8)).astype(np.float32), np.arange(30)[:, None].repeat(2, 1) % 3

    def fit(gender, count=30, classifier="layered"):
        targets = age[:count], np.asarray(gender)[:count]
        return fit_sift.fit(x[:count], x[:3], {"train": targets, "val": (age[:3], np.array([0, 1, 0]))}, classifier, 12)

    flat = fit([0] * 30, classifier="flat")
    for gender in ([0] * 30, [1, 1] + [0] * 28):  # no woman, and two
        params = fit(gender)
        for name in ("lda", "age_svm"):
            jax.tree.map(np.testing.assert_array_equal, params[f"{name}_female"], flat[f"{name}_all"])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    with pytest.raises(DataError, match="more images than classes, and there are 2 of 2"):
        fit([0] * 30, count=2)
    with pytest.raises(DataError, match="1 image"):
        fit([0] * 30, count=1, classifier="rbf")
    fit([0, 1] * 15, count=2, classifier="rbf")


def test_a_solved_run_stops_with_nothing_unsaved(tmp_path, monkeypatch):
    config = small_run.config(tmp_path)
    config.model.update(name="region_sift", gender_to_age="none", classifier="lda", width=1.0)
    with stop_flag() as stop:

        def describe(images):
            assert not stop.unsaved()
            stop.code = 75
            return images[:, 0, :30]

        monkeypatch.setattr(solve.region_sift, "describe", describe)
        monkeypatch.setattr(fit_sift, "fit", None)
        stop.begin(3, 0.0)
        stop.trained = 4  # of a run before
        with pytest.raises(Stopped, match="while solving"):
            train.fit(config, str(tmp_path / "run"), [])
    assert not (tmp_path / "run" / solve.FIT).exists()


def test_a_solved_run_that_is_killed_before_its_test_keeps_its_val_row(tmp_path, monkeypatch):
    config = small_run.config(tmp_path)
    config.model.update(name="region_sift", gender_to_age="none", classifier="lda", width=1.0)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(solve.final_test, "test", killed)
        with pytest.raises(KeyboardInterrupt):
            train.fit(config, str(tmp_path / "run"), [])
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert rows.count('"split": "val"') == 1
    train.fit(config, str(tmp_path / "run"), [])
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == rows and (tmp_path / "run" / "results.json").exists()


def configs_of(name, variant=""):
    import importlib

    assert name in configs.names()
    return importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)


def weights_of(leaf):
    """Return weights of a shape that keep the size of what passes through them, and biases of 0."""
    scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0
    return np.float32(scale * np.random.default_rng(0).standard_normal(leaf.shape))


@pytest.mark.slow
def test_training_through_a_solved_head(tmp_path, monkeypatch):
    """Each epoch starts from the last net and lowers the squared error of the last solution; the best one stays."""
    config = small_run.config(tmp_path)
    config.model.update(head="elm", gender_to_age="none", elm_hidden=20)
    config.elm.update(rounds=2, joint_lr=1e-5)
    config.batch_size = 48  # all
    config.augment.update(flip=False, shift=0.0, colour=0.0)
    dataset, net = load_dataset(config), models.from_config(config.model)
    shapes = jax.eval_shape(lambda: net.backbone.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)))
    own = jax.tree.map(weights_of, shapes)
    monkeypatch.setattr(solve_head, "_load", lambda *arguments: (net, own))
    started, errors = [], []
    train_epoch = solve_head._train

    def error(own, constant):
        (batch,) = dataset.train_batches(config, 0, 1)
        features = solve_head._features(net.backbone, own, batch.image)
        outputs = solve_head._random_units(*constant[0], features) @ constant[1]
        residuals = 2 * elm.one_hot(batch.age, batch.gender, 12) - 1 - outputs
        if own is started[0]:  # ridge regression's outputs are too small, if anything
            assert float((outputs * residuals).mean()) > -1e-3
        return float((residuals**2).mean())

    def watched(config, step, own, constant, *arguments):
        trained = train_epoch(config, step, own, constant, *arguments)
        started.append(own)
        errors.append((error(own, constant), error(trained, constant)))
        return trained

    monkeypatch.setattr(solve_head, "_train", watched)
    variables, report = solve_head.solve(config, Workdir(tmp_path / "run"), dataset, Progress(silent=True))
    assert started[0] is own and started[1] is not own
    assert all(after < before for before, after in errors), errors
    assert len(report["val_losses"]) == 3 and report["round"] == int(np.argmin(report["val_losses"]))
    assert report["val_losses"][report["round"]] == pytest.approx(report["val_loss_age"] + report["val_loss_gender"])
    assert set(variables["params"]) == {"backbone", "random", "output"}
    with pytest.raises(ConfigError, match="needs a solved head"):
        config.model.head = "softmax"
        validate(config)


@pytest.mark.slow
def test_solved_systems_are_ordinary_runs(tmp_path):
    config = small_run.config(tmp_path)
    train.fit(config, str(tmp_path / "cnn"), [])
    first = {}
    for head in ("elm", "ridge"):
        config.model.update(head=head, gender_to_age="none", elm_hidden=20 if head == "elm" else 1000)
        config.init_from = str(tmp_path / "cnn")
        train.fit(config, str(tmp_path / head), [])
        first[head] = (tmp_path / head / "predictions.csv").read_text()
        train.fit(config, str(tmp_path / head), [])  # passes over what is done
        assert (tmp_path / head / "inherited.csv").exists()
        fit = json.loads((tmp_path / head / solve.FIT).read_text())
        assert fit["log2_c_age"] in range(-20, 17) and fit["seconds"] >= 0
    assert first["elm"] != first["ridge"]
    sift = small_run.config(tmp_path)
    sift.model.update(name="region_sift", gender_to_age="none", classifier="layered", width=1.0)
    train.fit(sift, str(tmp_path / "sift"), [])
    train.fit(sift, str(tmp_path / "sift"), [])
    stored = json.loads((tmp_path / "sift" / "config.json").read_text())
    splits = (tmp_path / "sift" / "splits.csv").read_text()
    assert stored["model"]["support"] == splits.count(",train,") > 0
    from agegender_jax import ensemble, loading

    model, variables, _ = loading.load(tmp_path / "sift")
    probs = ensemble.predict(model, variables, np.zeros((2, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(probs.age.sum(1), 1, rtol=1e-5)


def test_a_stop_between_two_systems_leaves_the_second_to_the_next_call(tmp_path, monkeypatch):
    stop, trained = types.SimpleNamespace(code=None), []

    def fit(config, workdir, command):
        trained.append(Workdir(workdir).path.name)
        stop.code = 75

    monkeypatch.setattr(command.train, "fit", fit)
    monkeypatch.setattr(Workdir, "is_tested", lambda run: run.path.name in trained)
    monkeypatch.setattr(command, "stop_flag", lambda: contextlib.nullcontext(stop))
    monkeypatch.setattr(command, "Progress", lambda stop: Progress(silent=True))
    monkeypatch.setattr(command.dataset, "load_dataset", lambda *args: faces())
    monkeypatch.setattr(command.speed, "read", lambda run: 1.0)
    monkeypatch.setattr(command.finished_runs, "tested", lambda run: {"step": 3})
    monkeypatch.setattr(command.json_rows, "results", lambda *args: {"systems": list(trained)})
    monkeypatch.setattr(command.markdown_table, "render", str)
    arguments = common.get_config("quick"), str(tmp_path), ["plain_cnn"], []
    with pytest.raises(Stopped) as raised:
        command.baselines(*arguments)
    assert raised.value.code == 75 and trained == ["resnet18"]
    assert json.loads((tmp_path / command.FILE).read_text())["systems"] == ["resnet18"]
    stop.code = None
    assert command.baselines(*arguments)["systems"] == trained == ["resnet18", "plain_cnn"]


@pytest.mark.slow
def test_two_systems_and_their_table(tmp_path):
    config = small_run.config(tmp_path)
    result = command.baselines(config, str(tmp_path / "out"), ["region_sift_lda"], ["launch.baselines"])
    assert [row["name"] for row in result["systems"]] == ["resnet18", "region_sift_lda"]
    again = command.baselines(config, str(tmp_path / "out"), ["region_sift_lda"], ["launch.baselines"])
    assert again["systems"] == result["systems"]
    text = (tmp_path / "out" / command.PAGE).read_text()
    assert "Paired differences to resnet18" in text and "| region_sift_lda | " in text
