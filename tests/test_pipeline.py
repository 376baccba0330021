import itertools

import numpy as np
import pytest

from agegender_jax.data import pipeline

N = 50
IMAGES = np.arange(N, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
AGE = np.stack([np.arange(N), np.arange(N)], 1).astype(np.int32)
GENDER = (np.arange(N) % 2).astype(np.int32)
TRAIN = np.arange(3, 45)


def batches(start=0, num_steps=20, seed=0, batch_size=8, num_workers=2, **keywords):
    return list(
        pipeline.train_batches(
            IMAGES,
            AGE,
            GENDER,
            indices=TRAIN,
            seed=seed,
            batch_size=batch_size,
            start=start,
            num_steps=num_steps,
            num_workers=num_workers,
            **keywords,
        )
    )


def rows(result):
    return np.stack([batch.age[:, 0] for batch in result])


@pytest.mark.parametrize("start", [1, 5, 13])
def test_a_batch_is_a_function_of_seed_and_step(start):
    np.testing.assert_array_equal(rows(batches(start)), rows(batches())[start:])
    assert (rows(batches(seed=1)) != rows(batches())).any()


@pytest.mark.parametrize("num_workers", [0, 1, 8])
def test_workers_do_not_change_batches(num_workers):
    np.testing.assert_array_equal(rows(batches(num_workers=num_workers)), rows(batches()))


def test_all_workers_of_a_large_machine_read(monkeypatch, caplog):
    """Grain warns if fewer batches are read ahead than it has threads, and then leaves some of them idle."""
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 16)
    np.testing.assert_array_equal(rows(batches(num_workers=8)), rows(batches()))
    assert not [record for record in caplog.records if "prefetch" in record.getMessage()]


def test_an_epoch_contains_each_image_of_the_split_at_most_once():
    epochs = rows(batches(num_steps=10)).reshape(2, 40)
    for epoch in epochs:
        assert len(set(epoch)) == 40 and set(epoch) <= set(TRAIN)
    assert (epochs[0] != epochs[1]).any()


def test_images_and_labels_belong_together():
    for batch in batches(num_steps=3, age_years=3 * AGE[:, 0]):
        np.testing.assert_array_equal(batch.image[:, 0, 0, 0], batch.age[:, 0])
        np.testing.assert_array_equal(batch.age_years, 3 * batch.age[:, 0])
        np.testing.assert_array_equal(batch.gender, batch.age[:, 0] % 2)


def test_processes_share_each_batch():
    shares = [rows(batches(process_index=i, process_count=2)) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(shares, 1), rows(batches()))


@pytest.mark.parametrize("batch_size", [1, 7, 42, 64])
def test_evaluation_counts_every_example_once(batch_size):
    result = list(pipeline.eval_batches(IMAGES, AGE, GENDER, indices=TRAIN, batch_size=batch_size))
    assert {len(batch.mask) for batch in result} == {batch_size}
    real = [batch.age[batch.mask > 0, 0] for batch in result]
    assert list(itertools.chain.from_iterable(real)) == TRAIN.tolist()
