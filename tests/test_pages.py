"""Large pages: the program starts again once, as it was called, unless the user has decided."""

import os

import pytest

from agegender_jax.run.host import large_pages


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The calls of os.execv, on a system that offers large pages."""
    calls, kernel = [], tmp_path / "enabled"
    kernel.write_text("always [madvise] never")
    monkeypatch.setattr(large_pages, "KERNEL", kernel)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    monkeypatch.setattr(large_pages.sys, "orig_argv", ["python", "-X", "dev", "-m", "launch.train", "--config=a b"])
    monkeypatch.setattr(large_pages.sys, "executable", "/somewhere/python")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    monkeypatch.delenv(large_pages.BEFORE, raising=False)
    return calls


def test_the_program_starts_again_as_it_was_called(started):
    large_pages.use_large()
    assert started == [("/somewhere/python", ["/somewhere/python", "-X", "dev", "-m", "launch.train", "--config=a b"])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    assert large_pages.environment_before()["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
    assert large_pages.BEFORE not in large_pages.environment_before()
    large_pages.use_large()
    assert len(started) == 1


@pytest.mark.parametrize("libc", ["glibc 2.31", "musl", None])
def test_other_libraries_are_left_alone(started, monkeypatch, libc):
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    large_pages.use_large()
    assert not started


def test_the_users_choice_stands(started, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    large_pages.use_large()
    assert not started and os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


@pytest.mark.parametrize("text", ["always madvise [never]", None])
def test_a_kernel_without_them_is_left_alone(started, text):
    large_pages.KERNEL.write_text(text) if text else large_pages.KERNEL.unlink()
    large_pages.use_large()
    assert not started
