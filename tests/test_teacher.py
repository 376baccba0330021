"""Learning from the predictions of trained nets, `loss.teacher`."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_weights

from agegender_jax import (
    Predictor,
    data,
    ensemble,
    files,
    load,
    losses,
    objective,
    parallel,
    synthetic,
    training,
    weights,
)
from agegender_jax.config import default, validate
from agegender_jax.data import augment
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.prediction import members
from agegender_jax.report.runs import Run
from agegender_jax.run import checks, dataset, leaks, train
from agegender_jax.run.host import processes
from agegender_jax.run.training import compiled_step, teacher
from agegender_jax.run.workdir import Workdir, calibration
from agegender_jax.structs import Batch, Outputs, Probs


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Shipped weights `one`, `two` and their ensemble `default`."""
    folder = tmp_path / "weights"
    folder.mkdir()
    small_weights.write(folder)
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


def config_of(name, **loss):
    config = default()
    config.model.update(name="levi_hassner", width=0.125)
    config.data.image_size = 32
    config.loss.update(teacher=name, **loss)
    return config


def test_the_loss_is_the_cross_entropy_with_the_teachers_probabilities():
    logits, probs = jnp.array([[0.0, jnp.log(3.0)], [5.0, 5.0]]), jnp.array([[0.2, 0.8], [1.0, 0.0]])
    expected = [-0.2 * np.log(0.25) - 0.8 * np.log(0.75), np.log(2)]
    np.testing.assert_allclose(losses.teacher_loss(logits, probs), expected, rtol=1e-6)


def test_only_the_sum_over_an_open_last_group_is_learned():
    """Ages above 70 of weights trained on FairFace: no preference inside the group comes from the teacher."""
    logits = jnp.log(jnp.array([[0.1, 0.3, 0.2, 0.4]]))
    probs = np.array([[0.2, 0.3, 0.25, 0.25]])
    loss = functools.partial(losses.teacher_loss, probs=probs, open_from=2)
    expected = -0.2 * np.log(0.1) - 0.3 * np.log(0.3) - 0.5 * np.log(0.6)
    np.testing.assert_allclose(loss(logits), [expected], rtol=1e-6)
    gradient = jax.grad(lambda x: loss(x).sum())(logits)[0]
    np.testing.assert_allclose(gradient[2] / gradient[3], 0.5, rtol=1e-5)  # as the net's own probabilities
    assert abs(losses.teacher_loss(logits, probs)[0] - expected) > 0.1


def test_the_objective_joins_the_open_last_group_of_ages():
    """Teachers that differ only inside that group give the same loss."""
    rng = np.random.default_rng(0)
    outputs = Outputs(jnp.array(rng.normal(size=(4, 12))), jnp.array(rng.normal(size=(4, 2))))
    labels = jnp.array([[1, 1], [3, 4], [0, 0], [11, 11]]), None, jnp.array([0, 1, 1, 0])
    probs = Probs(*(jax.nn.softmax(jnp.array(rng.normal(size=(4, n)))) for n in (12, 2)))
    turned = Probs(jnp.concatenate([probs.age[:, :7], probs.age[:, :6:-1]], -1), probs.gender)
    options = {"age_loss": losses.age_loss, "label_smoothing": 0.0, "age_weight": 1.0, "gender_weight": 1.0}
    loss = functools.partial(objective.loss_and_means, outputs, labels, None, teacher_weight=0.5, **options)
    one, other = (float(loss(of, teacher_open_from=7)[0]) for of in (probs, turned))
    assert one == pytest.approx(other, rel=1e-6)
    assert abs(float(loss(probs)[0]) - float(loss(turned)[0])) > 1e-3


def test_the_teacher_knows_its_open_last_group(shipped, monkeypatch):
    assert teacher.load(config_of("default")).open_from is None
    card = json.loads((shipped / "two.json").read_bytes())
    card.pop(files.DIGEST)
    weights.cards.write(shipped / "two.json", card | {"calibration": card["calibration"] | {"open_from": 7}})
    assert teacher.load(config_of("two")).open_from == 7 and teacher.load(config_of("one,two")).open_from == 7
    monkeypatch.setattr(parallel, "driver", lambda name, step, devices: step)
    loaded = teacher.load(config_of("two"))
    options = compiled_step.make_driver(config_of("two"), None, None, teacher=loaded).keywords
    assert options["teacher_open_from"] == 7 and options["teacher"].open_from == 7


def test_train_rows_score_an_open_last_group_as_one():
    """As those of val do: its five buckets together are more probable than 60-69."""
    probs = np.array([[0.001] * 6 + [0.3] + [0.1388] * 5])
    outputs = Outputs(jnp.log(probs), jnp.zeros((1, 2)))
    labels = jnp.array([[7, 11]]), None, jnp.array([0])
    options = {"age_loss": losses.age_loss, "label_smoothing": 0.0, "age_weight": 1.0, "gender_weight": 1.0}
    for open_from, expected in ((7, 1.0), (None, 0.0)):
        _, means = objective.loss_and_means(outputs, labels, None, open_from=open_from, **options)
        assert float(means["age_accuracy"]) == expected


def test_the_step_knows_the_open_group_of_the_train_split(monkeypatch):
    monkeypatch.setattr(parallel, "driver", lambda name, step, devices: step)
    for ages, expected in (([[1, 1], [7, 11]], 7), ([[1, 1], [8, 8]], None)):
        step = compiled_step.make_driver(default(), None, None, train_age=np.array(ages))
        assert step.keywords["open_from"] == expected == step.keywords["age_loss"].keywords["open_from"]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_labels_and_teacher_share_the_weight(weight):
    rng = np.random.default_rng(0)
    outputs = Outputs(jnp.array(rng.normal(size=(4, 12))), jnp.array(rng.normal(size=(4, 2))))
    labels = jnp.array([[1, 1], [3, 4], [0, 0], [11, 11]]), None, jnp.array([0, 1, 1, 0])
    taught = Probs(*(jax.nn.softmax(jnp.array(rng.normal(size=(4, n)))) for n in (12, 2)))
    options = {"age_loss": losses.age_loss, "label_smoothing": 0.1, "age_weight": 2.0, "gender_weight": 0.5}
    of_labels, means = objective.loss_and_means(outputs, labels, None, **options)
    minimised, logged = objective.loss_and_means(outputs, labels, None, taught, teacher_weight=weight, **options)
    of_age, of_gender = (
        float(-(target * np.log(jax.nn.softmax(logits))).sum(-1).mean())
        for target, logits in ((taught.age, outputs.age_logits), (taught.gender, outputs.gender_logits))
    )
    expected = (1 - weight) * float(of_labels) + weight * (2.0 * of_age + 0.5 * of_gender)
    assert float(minimised) == pytest.approx(expected, rel=1e-5)
    assert {name: float(value) for name, value in logged.items()} == {n: float(v) for n, v in means.items()}


def test_the_teacher_answers_like_a_predictor_without_views(shipped):
    """Both nets of the ensemble, calibrated; larger images are resized to their 32 pixels."""
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    teach = teacher.load(config_of("default"))
    probs = teach(data.normalize(jnp.asarray(images)))
    expected = Predictor(detector="none", views="none").probs({32: images})
    np.testing.assert_allclose(probs.age, expected.age, atol=1e-5)
    np.testing.assert_allclose(probs.gender, expected.gender, atol=1e-5)
    larger = data.normalize(jnp.asarray(images.repeat(2, 1).repeat(2, 2)))
    assert teach(larger).age.shape == (5, 12)
    both = [teacher.load(config_of(name))(data.normalize(jnp.asarray(images))).age for name in ("one", "two")]
    np.testing.assert_allclose(
        teacher.load(config_of("one,two"))(data.normalize(jnp.asarray(images))).age, sum(both) / 2, atol=1e-6
    )
    assert teacher.load(config_of("")) is None


@pytest.mark.parametrize(
    "fields, predictions, expected",
    [
        ({"open_from": 7}, None, 7),  # of a run with few images in val
        ({"open_from": None}, {"open_from": 7}, None),
        ({}, {"open_from": 7}, 7),  # of version 0.2
        ({}, None, None),
    ],
)
def test_the_open_last_group_of_a_run(fields, predictions, expected, tmp_path, monkeypatch, shipped):
    temperatures = {"age_temperature": 1.0, "gender_temperature": 1.0, "step": 1, "bucket_years": None}
    calibration.write(Workdir(tmp_path), temperatures | fields)
    answers = predictions and weights.card("one", shipped).calibration | predictions
    monkeypatch.setattr(members, "own_thresholds", lambda run: answers)
    monkeypatch.setattr(members, "from_runs", lambda runs: ([], None))
    assert teacher._load(str(tmp_path), []) == ([], expected)


def test_a_teacher_that_cannot_be_used_is_refused(shipped, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="an empty name of a teacher"):
        teacher.load(config_of("one,"))
    with pytest.raises(ConfigError, match="there is no run"):
        teacher.load(config_of(str(tmp_path / "absent")))
    with pytest.raises(ConfigError, match="no weights called onee[\\s\\S]*did you mean one"):
        teacher.load(config_of("onee"))
    (tmp_path / "uncalibrated").mkdir()
    monkeypatch.setattr(members, "from_runs", lambda runs: ([], None))
    with pytest.raises(ConfigError, match="has not finished its training"):
        teacher.load(config_of(str(tmp_path / "uncalibrated")))
    run = Workdir(tmp_path / "uncalibrated")
    calibration.write(run, {"age_temperature": 1.0, "gender_temperature": 1.0, "step": 1, "bucket_years": None})
    run.config.write_text(json.dumps({"loss": {"age_weight": 0.0, "gender_weight": 1.0}}))
    with pytest.raises(ConfigError, match="has not trained its age head"):
        teacher._load(str(run.path), ["age", "gender"])
    teacher._load(str(run.path), ["gender"])
    monkeypatch.undo()
    monkeypatch.setattr(weights, "FOLDER", shipped)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        teacher.load(config_of(str(tmp_path / "empty")))
    for twice in ("one,one", "default,one"):
        with pytest.raises(ConfigError, match="named twice"):
            teacher.load(config_of(twice))
    with pytest.raises(ConfigError, match=r"teacher_weight must be between 0 and 1"):
        validate(config_of("one", teacher_weight=1.5))
    with pytest.raises(ConfigError, match=r"loss\.teacher_weight has no effect"):
        checks.options(config_of("", teacher_weight=0.9))
    with pytest.raises(ConfigError, match=r"loss\.teacher has no effect"):
        checks.options(config_of("one", teacher_weight=0.0))
    with pytest.raises(ConfigError, match="is a URL"):
        checks.config.local_paths(config_of("s3://bucket/run"))
    solved = config_of("one", teacher_weight=0.9)
    solved.model.update(name="region_sift", width=1.0)
    with pytest.raises(ConfigError, match=r"loss\.teacher has no effect"):
        checks.options(solved)
    solved.update_from_flattened_dict({field: value for field, (_, value) in checks.lacking(solved).items()})
    checks.options(solved)  # as launch.baselines does


def test_a_net_follows_its_teacher(shipped, tmp_path):
    """With the teacher's weight 1, labels play no part: the net comes to predict what the teacher predicts."""
    synthetic.write_faces(tmp_path / "faces", 120, seed=0, size=32)
    config = config_of("one", teacher_weight=1.0)
    config.data.update(source=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache"))
    config.augment.update(flip=False, shift=0.0, colour=0.0)
    config.optimizer.lr, config.batch_size, config.log.figures = 0.002, 32, False
    faces = dataset.load_dataset(config, lambda text, done=0, total=0: None).prepared.images(32)[:40]
    target = teacher.load(config)(data.normalize(jnp.asarray(faces)))

    def distance(steps):
        config.num_steps = steps
        train.fit(config.copy_and_resolve_references(), str(tmp_path / str(steps)), ["test"])
        model, variables, _ = load(tmp_path / str(steps), "latest")
        probs = ensemble.predict(model, variables, faces)
        return float(np.abs(probs.gender - target.gender).mean() + np.abs(probs.age - target.age).mean())

    assert distance(80) < 0.5 * distance(1)


def test_images_that_a_teacher_has_seen_count_as_seen(tmp_path, capsys):
    """Also if the run starts from the weights of a run that has seen others."""
    config = config_of("")
    config.data.cache_dir = str(tmp_path / "cache")
    config.num_steps, config.log.figures = 1, False
    for name, seed in (("first", 0), ("others", 1)):
        synthetic.write_faces(tmp_path / f"{name}_faces", 120, seed=seed, size=32)
        config.data.source = str(tmp_path / f"{name}_faces")
        train.fit(config, str(tmp_path / name), ["test"])
    config.data.source, config.data.split_seed = str(tmp_path / "first_faces"), 1
    config.loss.teacher = str(tmp_path / "first")
    expected = 0
    for name, init_from in (("first", ""), ("others", str(tmp_path / "others"))):
        expected += np.isin(leaks.read_splits(Workdir(tmp_path / name)).split, ("train", "val")).sum()
        config.init_from, run = init_from, tmp_path / f"taught_{name}"
        train.fit(config, str(run), ["test"])
        assert len((run / "inherited.csv").read_text().splitlines()) - 1 == expected
        assert json.loads((run / "results.json").read_text())["allow_leak"]
        trained = calibration.read(Workdir(run))["val_trained_on"]
        split = leaks.read_splits(Workdir(tmp_path / "first")), leaks.read_splits(Workdir(run))
        train_before, val = split[0].sha256[split[0].split == "train"], split[1].sha256[split[1].split == "val"]
        assert trained == np.isin(val, train_before).sum() > 0
        assert f"WARNING: {trained} of {len(val)} images of val" in capsys.readouterr().out
        assert f"{trained} images of val were trained on" in (run / "report.html").read_text()


def test_a_run_goes_on_with_the_same_teacher_and_ends_without_it(shipped, tmp_path, monkeypatch):
    compared = []  # with those of the other processes
    monkeypatch.setattr(teacher, "check_everywhere", compared.append)
    synthetic.write_faces(tmp_path / "faces", 120, seed=0, size=32)
    config = config_of("one")
    config.data.update(source=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache"))
    config.num_steps, config.log.figures = 1, False
    train.fit(config, str(tmp_path / "run"), ["test"])
    results = tmp_path / "run" / "results.json"
    scores = json.loads(results.read_text())["models"]
    (shipped / "one.json").unlink()
    train.fit(config, str(tmp_path / "run"), ["test"])  # a finished run needs no teacher,
    results.unlink()
    train.fit(config, str(tmp_path / "run"), ["test"])  # nor does one that only remains to be tested
    assert json.loads(results.read_text())["models"] == scores
    assert [found and len(found.nets) for found in compared] == [1, None]
    config.num_steps = 2
    for suffix in ("json", "safetensors"):
        (shipped / f"one.{suffix}").write_bytes((shipped / f"two.{suffix}").read_bytes())
    before = [path.read_bytes() for path in (Workdir(tmp_path / "run").config, tmp_path / "run" / "run.json")]
    with pytest.raises(ConfigError, match="the teacher has changed"):
        train.fit(config, str(tmp_path / "run"), ["test"])
    assert [path.read_bytes() for path in (Workdir(tmp_path / "run").config, tmp_path / "run" / "run.json")] == before


def test_the_record_of_a_teacher_has_all_that_its_predictions_depend_on(shipped, tmp_path):
    run = Workdir(tmp_path / "run")
    run.path.mkdir()
    found = teacher.load(config_of("one"))
    teacher.record(found, run)
    teacher.check_unchanged(found, run)
    teacher.check_unchanged(None, run)
    card = json.loads((shipped / "one.json").read_bytes())
    card.pop(files.DIGEST)
    for change in (
        {"temperatures": [1.1, 0.8]},
        {"calibration": card["calibration"] | {"open_from": 7}},
        {"config": card["config"] | {"data": {"image_size": 48}}},
    ):
        weights.cards.write(shipped / "one.json", card | change)
        with pytest.raises(ConfigError, match="the teacher has changed"):
            teacher.check_unchanged(teacher.load(config_of("one")), run)
    recorded = run.teachers.read_bytes()
    for damaged in (recorded.replace(b"1.5", b"1.6"), b"[", b""):
        run.teachers.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="teacher cannot be read"):
            teacher.check_unchanged(found, run)
    teacher.record(None, run)
    with pytest.raises(CheckpointError, match="teacher cannot be read"):
        teacher.check_unchanged(found, run)


def test_all_processes_have_the_same_teacher(shipped, monkeypatch):
    found, others = teacher.load(config_of("one")), []
    monkeypatch.setattr(processes, "gather_texts", lambda text: [*others, text])
    teacher.check_everywhere(found)
    others.append(files.seal(teacher.load(config_of("two")).identity)[files.DIGEST])
    with pytest.raises(ConfigError, match="different teachers"):
        teacher.check_everywhere(found)


def test_a_net_that_learns_from_another_is_not_free_of_photographs():
    config = default().to_dict()
    run = Run("run", 1, config, {"source": {"name": "synthetic"}}, {}, [])
    assert run.is_free()
    config["loss"]["teacher"] = "default"
    assert not run.is_free()


class Linear(nn.Module):
    """Both heads linear in the image's mean colour."""

    @nn.compact
    def __call__(self, images, *, train):
        features = images.mean((1, 2))
        return Outputs(nn.Dense(12, name="age")(features), nn.Dense(2, name="gender")(features))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_teacher_sees_what_the_net_sees(accumulate):
    """An update is that of the loss with the teacher's answers for the mixed images, in parts of the batch, too."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 4, 4, 3), np.uint8)
    ages, genders = rng.integers(0, 12, 8, np.int32), rng.integers(0, 2, 8, np.int32)
    batch = Batch(images, np.stack([ages, ages], 1), genders, np.ones(8, np.float32), np.full(8, -1, np.int32))
    model, tx = Linear(), optax.sgd(1.0)

    def teach(images):
        colour = images.mean((1, 2))
        return Probs(jax.nn.softmax(colour @ jnp.ones((3, 12))), jax.nn.softmax(colour[:, :2]))

    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.key(1),
        prepare_images=lambda keys, images: images / 255.0,
        mixup=1.0,
        teacher=teach,
        teacher_weight=1.0,
        accumulate=accumulate,
    )
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    state = training.init_state(model, tx, jax.random.key(0), 4)
    params = jax.tree.map(np.array, state.params)
    after = driver.step(driver.replicate(state), driver.split(batch))
    keys, _ = jax.shard_map(
        lambda: training._keys(jax.random.key(1), 0, 8, parallel.AXIS),
        mesh=driver.mesh, in_specs=(), out_specs=jax.sharding.PartitionSpec(), check_vma=False,
    )()  # fmt: skip
    mixed, _ = augment.mixup(keys, jnp.asarray(images) / 255.0, 1.0)
    assert not np.allclose(mixed, images / 255.0)
    target = teach(mixed)

    def loss(params):
        outputs = model.apply({"params": params}, mixed, train=True)
        return sum(
            losses.teacher_loss(logits, probs).mean()
            for logits, probs in ((outputs.age_logits, target.age), (outputs.gender_logits, target.gender))
        )

    expected = jax.tree.map(lambda value, gradient: value - gradient, params, jax.grad(loss)(params))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after.params, expected)
