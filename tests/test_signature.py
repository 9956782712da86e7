"""Requests are checked before a model sees them; a refusal says what came, what was expected and how to mend it."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.errors import InvalidRequest
from graphpipe.signature import Plan, Signature, TensorSpec

F2, F4, F8, I8, I4, U1, BOOL, TEXT = map(np.dtype, ("f2", "f4", "f8", "i8", "i4", "u1", "?", "O"))

# An image classifier with a mask: the same n in both, TensorFlow's name for one output.
MODEL = Signature(
    (TensorSpec("image", F4, ("n", 3)), TensorSpec("mask", BOOL, ("n",))),
    (TensorSpec("scores", F4, ("n", 10)), TensorSpec("labels:0", TEXT, ("n",))),
)
ONE = Signature((TensorSpec("x", F4, (None, 3)),), (TensorSpec("y", F4),))


def plan(
    signature: Signature,
    *tensors: tuple[np.dtype[Any], tuple[int, ...]],
    names: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    **options: bool,
) -> Plan:
    return signature.plan([t[0] for t in tensors], [t[1] for t in tensors], names, outputs, **options)


IMAGE, MASK = (F4, (2, 3)), (U1, (2,))


def refusal(signature: Signature, *tensors: tuple[np.dtype[Any], tuple[int, ...]], **request: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        plan(signature, *tensors, **request)
    return caught.value.message


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "tensors", "meant"),
    [
        ((), (IMAGE, MASK), ("image", "mask")),
        (("", ""), (IMAGE, MASK), ("image", "mask")),
        (("mask", "image"), (MASK, IMAGE), ("mask", "image")),
        (("", "mask"), (IMAGE, MASK), ("image", "mask")),
        (("image:0", "mask:0"), (IMAGE, MASK), ("image", "mask")),
        (("image", "mask", "image", "mask"), (IMAGE, MASK), ("image", "mask")),
        (("image", "mask", "no such name"), (IMAGE, MASK), ("image", "mask")),
    ],
    ids=["defaults", "empty", "any order", "half empty", ":0", "2N names", "too many names"],
)
def test_a_tensor_is_the_input_at_its_name_or_place(names, tensors, meant):
    assert plan(MODEL, *tensors, names=names).names == meant


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ((), ("scores", "labels:0")),
        (("",), ("scores",)),
        (("", ""), ("scores", "labels:0")),
        (("labels",), ("labels:0",)),
        (("labels:0", "scores:0", "labels"), ("labels:0", "scores", "labels:0")),
        (("scores", "scores"), ("scores", "scores")),
    ],
    ids=["defaults", "empty", "both empty", "without :0", "order", "repeats"],
)
def test_outputs_come_in_the_order_asked_for(asked, meant):
    assert plan(MODEL, IMAGE, MASK, outputs=asked).outputs == meant


def test_defaults_narrow_what_is_asked_of_and_answered_to_a_request_without_names():
    narrow = Signature(MODEL.inputs, MODEL.outputs, default_inputs=("image",), default_outputs=("labels:0",))
    assert plan(narrow, IMAGE) == Plan(("image",), (None,), ("labels:0",))
    assert plan(narrow, IMAGE, MASK, names=("", "mask")).names == ("image", "mask")
    assert plan(narrow, IMAGE, outputs=("scores", "labels")).outputs == ("scores", "labels:0")
    assert (narrow.input_names, narrow.output_names) == (("image",), ("labels:0",))


@pytest.mark.parametrize(
    ("tensors", "request_", "words"),
    [
        (
            (IMAGE, MASK),
            {"names": ("imgae",)},
            "there is no input 'imgae'; the model's inputs are 'image', 'mask'; did you mean 'image'?; leave it out, "
            "or start the server with --ignore-extra-inputs",
        ),
        (
            (IMAGE, MASK, MASK),
            {},
            "3 tensors came, and tensor 2 has no name; the model's inputs are 'image', 'mask': send 2, or name them",
        ),
        ((IMAGE,), {}, "missing input 'mask'; 1 came; the model's inputs are 'image', 'mask'"),
        ((), {}, "missing inputs 'image', 'mask'; 0 came; the model's inputs are 'image', 'mask'"),
        ((MASK,), {"names": ("mask",)}, "missing input 'image'; 'mask' came; the model's inputs are 'image', 'mask'"),
        ((IMAGE, IMAGE), {"names": ("image", "image:0")}, "input 'image' came twice; send each input once"),
        ((IMAGE, IMAGE), {"names": ("", "image")}, "input 'image' came twice; send each input once"),
        (
            (IMAGE, MASK),
            {"outputs": ("score",)},
            "there is no output 'score'; the model's outputs are 'scores', 'labels:0'; did you mean 'scores'?",
        ),
        (
            (IMAGE, MASK),
            {"outputs": ("", "", "")},
            "output 2 has no name, and there is no default for it; the model's outputs are 'scores', 'labels:0'",
        ),
    ],
)
def test_a_wrong_name_is_refused_with_the_right_ones(tensors, request_, words):
    assert refusal(MODEL, *tensors, **request_) == words


def test_one_name_reads_as_one_and_many_are_cut_short():
    assert refusal(ONE, IMAGE, names=("q",)).startswith("there is no input 'q'; the model's input is 'x'; leave it out")
    wide = Signature(tuple(TensorSpec(f"input{i}") for i in range(40)), ())
    assert "'input9' and 30 more" in refusal(wide, names=())
    assert refusal(wide, outputs=("y",)) == "there is no output 'y'; the model has no outputs"


def test_a_name_of_a_megabyte_is_not_sent_back_whole():
    for request in ({"names": ("x" * 10**6,)}, {"outputs": ("y" * 10**6,)}):
        assert len(refusal(ONE, IMAGE, **request)) < 500


def test_as_many_tensors_as_a_request_may_hold_are_named():
    echo = Signature((), (), variadic=True)
    names = tuple(f"a rather long name of an input {i}" for i in range(4096))
    assert plan(echo, *[IMAGE] * 4096, names=names).names == names


def test_extra_inputs_are_left_out_if_that_was_asked_for():
    both = plan(ONE, IMAGE, MASK, names=("x", "mask"), ignore_extra_inputs=True)
    assert both.names == ("x", None)
    image, mask = np.zeros((2, 3), "f4"), np.zeros(2, "u1")
    inputs = both.inputs([image, mask])
    assert list(inputs) == ["x"]
    assert inputs["x"] is image
    assert "missing input 'x'" in refusal(ONE, IMAGE, names=("mask",), ignore_extra_inputs=True)


def test_a_variadic_model_takes_any_tensors_and_outputs():
    echo = Signature((), (), variadic=True)
    assert plan(echo, IMAGE, MASK).names == ("input_0", "input_1")
    assert plan(echo, IMAGE, MASK, names=("", "b"), outputs=("", "q")) == Plan(
        ("input_0", "b"), (None, None), ("output_0", "q")
    )
    assert plan(echo, IMAGE).outputs == ()
    assert "came twice" in refusal(echo, IMAGE, MASK, names=("a", "a"))


def test_an_open_model_can_be_asked_for_outputs_that_it_does_not_list():
    graph = Signature(ONE.inputs, ONE.outputs, default_outputs=("hidden",), open_outputs=True)
    assert plan(graph, IMAGE).outputs == ("hidden",)
    assert plan(graph, IMAGE, outputs=("layer/relu:0", "y:0")).outputs == ("layer/relu:0", "y")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": ONE.inputs * 2, "outputs": ()}, "an input name occurs twice"),
        ({"inputs": (), "outputs": ONE.outputs * 2}, "an output name occurs twice"),
        (
            {"inputs": ONE.inputs, "outputs": (), "default_inputs": ("q",)},
            "there is no input 'q'; the model's input is",
        ),
        (
            {"inputs": (), "outputs": ONE.outputs, "default_outputs": ("q",)},
            "there is no output 'q'; the model's output",
        ),
    ],
)
def test_a_signature_that_contradicts_itself_is_not_made(arguments, words):
    with pytest.raises(ValueError, match=words):
        Signature(**arguments)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec_shape", "shape", "words"),
    [
        (("n", 3), (2, 4), "has shape [2, 4]: 4 along axis 1, but the model takes 3 there: x float32 [n, 3]"),
        (
            ("n", 3),
            (3,),
            "has shape [3], but the model takes 2 dimensions: x float32 [n, 3]; for one row, send it as [1, 3]",
        ),
        (("n",), (), "has shape [], but the model takes 1 dimension: x float32 [n]; send a list of one"),
        ((), (1,), "has shape [1], but the model takes 0 dimensions: x float32 []"),
        ((None, 3), (1, 1, 3), "has shape [1, 1, 3], but the model takes 2 dimensions: x float32 [?, 3]"),
        (("n", "n"), (2, 3), "has 3 along axis 1, but 'n' is already 2 in 'x'; both must be equal: x float32 [n, n]"),
    ],
)
def test_a_wrong_shape_is_refused_in_words(spec_shape, shape, words):
    assert refusal(Signature((TensorSpec("x", F4, spec_shape),), ()), (F4, shape)) == f"input 'x' {words}"


def test_a_symbol_is_the_same_in_all_inputs_of_one_request():
    assert refusal(MODEL, IMAGE, (U1, (5,))) == (
        "input 'mask' has 5 along axis 0, but 'n' is already 2 in 'image'; both must be equal: mask bool [n]"
    )
    plan(MODEL, (F4, (5, 3)), (U1, (5,)))  # and another in the next


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (10**6, 3)])
def test_an_unknown_dimension_may_be_anything(shape):
    plan(ONE, (F4, shape))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
def test_an_unknown_shape_may_have_any_rank(shape):
    plan(Signature((TensorSpec("x", F4),), ()), (F4, shape))


dims = st.one_of(st.integers(0, 3), st.sampled_from(["n", "m"]), st.none())
specs = st.lists(st.lists(dims, max_size=3).map(tuple), max_size=3)


@settings(deadline=None)
@given(specs, st.fixed_dictionaries({"n": st.integers(0, 3), "m": st.integers(0, 3)}), st.data())
def test_shapes_that_follow_the_signature_pass_and_one_changed_dimension_does_not(shapes, values, data):
    signature = Signature(tuple(TensorSpec(f"x{i}", F4, shape) for i, shape in enumerate(shapes)), ())
    fitting = [tuple(values[d] if isinstance(d, str) else 7 if d is None else d for d in shape) for shape in shapes]
    plan(signature, *[(F4, shape) for shape in fitting])
    fixed = [(i, axis) for i, shape in enumerate(shapes) for axis, d in enumerate(shape) if isinstance(d, int)]
    if fixed:
        i, axis = data.draw(st.sampled_from(fixed))
        fitting[i] = (*fitting[i][:axis], fitting[i][axis] + 1, *fitting[i][axis + 1 :])
        assert f"along axis {axis}" in refusal(signature, *[(F4, shape) for shape in fitting])


# --- element types ----------------------------------------------------------------------------------------------------


def takes(dtype: np.dtype[Any] | None) -> Signature:
    return Signature((TensorSpec("x", dtype),), ())


MEND = "or allow conversion: cast=True in the client, --cast on the server"


@pytest.mark.parametrize(
    ("came", "wanted", "cast", "words"),
    [
        (F8, F4, False, f"is float64, but the model takes float32; convert it first: .astype('float32'), {MEND}"),
        (I4, I8, False, f"is int32, but the model takes int64; convert it first: .astype('int64'), {MEND}"),
        (F4, I8, True, "is float32, but the model takes int64; convert it first: .astype('int64')"),
        (I8, U1, True, "is int64, but the model takes uint8; convert it first: .astype('uint8')"),
        (F4, BOOL, True, "is float32, but the model takes bool; convert it first: .astype('bool')"),
        (TEXT, F4, True, "is string, but the model takes float32; text and numbers are not converted into each other"),
        (U1, TEXT, True, "is uint8, but the model takes string; text and numbers are not converted into each other"),
        (np.dtype("S3"), F4, True, "is string, but the model takes float32; text and numbers are not converted into"),
    ],
)
def test_a_wrong_element_type_is_refused_with_the_way_out(came, wanted, cast, words):
    said = refusal(takes(wanted), (came, (2,)), cast=cast)
    assert said.startswith(f"input 'x' {words}")
    assert ("cast=True" in said) == (MEND in words)  # not promised where it would not help


@pytest.mark.parametrize(
    ("came", "wanted", "converted"),
    [
        (F4, F4, None),
        (F8, None, None),
        (TEXT, TEXT, None),
        (np.dtype("S4"), TEXT, None),
        (np.dtype("U4"), TEXT, None),
        (U1, BOOL, BOOL),
        (BOOL, BOOL, None),
    ],
)
def test_types_that_need_no_permission(came, wanted, converted):
    assert plan(takes(wanted), (came, (2,))).casts == (converted,)


def cast(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    return plan(takes(np.dtype(dtype)), (array.dtype, array.shape), cast=True).inputs([array])["x"]


@pytest.mark.parametrize(
    ("values", "came", "wanted"),
    [([1.5, -2], "f8", "f4"), ([1, -2], "i4", "i8"), ([1, 2], "i8", "f4"), ([7, 300], "i8", "i2"), ([5], "u8", "i8")],
)
def test_a_cast_that_was_asked_for_keeps_the_values(values, came, wanted):
    result = cast(np.array(values, came), wanted)
    assert result.dtype == wanted
    assert result.tolist() == values


@pytest.mark.parametrize(
    ("value", "came", "wanted", "words"),
    [
        (300, "i8", "i1", "input 'x' has values that int8 cannot hold (-128 to 127)"),
        (-(2**40), "i8", "i4", "input 'x' has values that int32 cannot hold (-2147483648 to 2147483647)"),
        (2**63, "u8", "i8", "input 'x' has values that int64 cannot hold"),
        (1e300, "f8", "f4", "input 'x' has values that float32 cannot hold; scale it first"),
        (70000.0, "f4", "f2", "input 'x' has values that float16 cannot hold; scale it first"),
        (70000, "i8", "f2", "input 'x' has values that float16 cannot hold; scale it first"),
    ],
)
def test_a_cast_that_would_lose_the_value_is_refused(value, came, wanted, words):
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        cast(np.array([0, value], came), wanted)


def test_infinity_and_nan_survive_a_cast():
    assert str(cast(np.array([np.inf, -np.inf, np.nan]), "f4").tolist()) == "[inf, -inf, nan]"


def test_an_empty_tensor_can_be_cast():
    assert cast(np.zeros((0, 3), "i8"), "i1").shape == (0, 3)


def test_bool_is_every_number_but_zero():
    inputs = plan(takes(BOOL), (U1, (3,))).inputs([np.array([0, 1, 2], "u1")])
    assert inputs["x"].tolist() == [False, True, True]


def test_a_tensor_that_fits_is_handed_on_as_it_is():
    image, mask = np.zeros((2, 3), "f4"), np.array([0, 1], "u1")
    inputs = plan(MODEL, IMAGE, MASK).inputs([image, mask])
    assert inputs["image"] is image
    assert inputs["mask"].tolist() == [False, True]


numbers = st.sampled_from([np.dtype(c) for c in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")])


@settings(deadline=None)
@given(numbers, numbers, st.data())
def test_a_cast_gives_the_nearest_value_or_a_refusal_never_another_value(came, wanted, data):
    if came.kind == "f":
        drawn = data.draw(st.floats(width=came.itemsize * 8))  # type: ignore[arg-type]
    else:
        limits = np.iinfo(came)
        drawn = data.draw(st.integers(int(limits.min), int(limits.max)))
    value = np.array([drawn], came)
    try:
        result = cast(value, wanted.str)
    except InvalidRequest:
        return
    if wanted.kind in "iu":
        assert result.tolist() == value.tolist()
    else:
        np.testing.assert_allclose(result.astype("f8"), value.astype("f8"), rtol=1e-3, atol=1e-7)


# --- as people read them ----------------------------------------------------------------------------------------------


def test_specs_and_signatures_read_as_one_line():
    assert str(TensorSpec("x", F4, ("n", 3, None))) == "x float32 [n, 3, ?]"
    assert str(TensorSpec("x", TEXT, ())) == "x string []"
    assert str(TensorSpec("x")) == "x unknown any shape"
    assert str(MODEL) == "(image float32 [n, 3], mask bool [n]) -> (scores float32 [n, 10], labels:0 string [n])"
