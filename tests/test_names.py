from agegender_jax import names
from agegender_jax.csv_cells import guard, original


def test_a_taken_name_gets_the_first_free_number():
    taken = {"a", "a-2", "b"}
    assert [names.unique(name, taken.__contains__) for name in ("a", "b", "c")] == ["a-3", "b-2", "c"]


def test_cells_of_formulas_are_text_and_can_be_read_again():
    for text in ("=1+1", "+1", "-1_0.jpg", "@a", "\t=1", "\r=1", "'=1", "'a", "a=1", "", "''=1"):
        assert not guard(text).startswith(("=", "+", "-", "@", "\t", "\r"))
        assert original(guard(text)) == text or text == "'=1"
