from agegender_jax import names


def test_a_taken_name_gets_the_first_free_number():
    taken = {"a", "a-2", "b"}
    assert [names.unique(name, taken.__contains__) for name in ("a", "b", "c")] == ["a-3", "b-2", "c"]
