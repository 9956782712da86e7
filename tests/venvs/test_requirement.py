"""Versions are compared as pip compares them: the library that pip has for it is the judge."""

from __future__ import annotations

import itertools

import pytest

from graphpipe.venvs.requirement import Requirement, Version

packaging_version = pytest.importorskip("packaging.version")
packaging_specifiers = pytest.importorskip("packaging.specifiers")

VERSIONS = (
    "1", "1.0", "1.0.0", "1.1", "1.0.1", "2.15.1", "2.15.0", "2.16.0rc1", "2.16", "2.16.0.dev3", "2.16.1", "1.0a1",
    "1.0b2", "1.0.post1", "1.0.dev4", "1.0a1.dev1", "1!0.5", "1!1.0", "2.2.2+cpu", "2.2.2", "2.2.2+cu121",
    "2.9.0.dev20260101+cpu", "v3.0", "1.0-1", "1.0alpha", "1.0_pre3", "0.0", "2.16.0.post1", "10.0",
)  # fmt: skip


def test_versions_are_in_their_order():
    wrong = [
        (one, other)
        for one, other in itertools.product(VERSIONS, VERSIONS)
        if (Version.of(one).order < Version.of(other).order)
        != (packaging_version.Version(one) < packaging_version.Version(other))
    ]
    assert wrong == []


@pytest.mark.parametrize("sign", ["==", "!=", ">=", "<=", "<", ">", "~=", "== *", "!= *"])
def test_a_comparison_takes_the_versions_that_pip_takes(sign):
    for wanted in VERSIONS:
        text = f"{sign.removesuffix(' *')}{wanted}{'.*' if sign.endswith('*') else ''}"
        try:
            judge = packaging_specifiers.SpecifierSet(text)
        except packaging_specifiers.InvalidSpecifier:
            with pytest.raises(ValueError, match=r"\S"):
                Requirement.of(f"x{text}")
            continue
        ours = Requirement.of(f"x {text}")
        for version in VERSIONS:
            assert ours.allows(version) == judge.contains(version, prereleases=True), (text, version)


def test_all_comparisons_have_to_hold():
    requirement = Requirement.of("Tensor_Flow >= 2.15, <2.17 , != 2.16.*")
    assert requirement.name == "tensor-flow"
    allowed = [version for version in ("2.14", "2.15", "2.15.9", "2.16.1", "2.17") if requirement.allows(version)]
    assert allowed == ["2.15", "2.15.9"]
    assert Requirement.of(str(requirement)) == requirement


def test_where_nothing_is_asked_anything_will_do():
    assert Requirement.of("torch").allows("whatever it is")
    assert not Requirement.of("torch>1").allows("whatever it is")


@pytest.mark.parametrize(
    "text",
    ["", ">=2", "tensorflow 2.15", "tensorflow=2", "torch>=", "torch>=2;python_version>'3'", "torch[x]>=2", "a>=1,,<2",
     "a>=1 b", "a @ https://example.com/a.whl", "a>=1.*", "a~=1", "a>=" + "1" * 1000, "\x1b[31m", "-r file"],
)  # fmt: skip
def test_anything_else_is_refused_in_words(text):
    with pytest.raises(ValueError, match=r"expected|belongs|with a dot") as refused:
        Requirement.of(text)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()
