"""bool on the wire: Uint8 with a mark beside it, in requests."""

from __future__ import annotations

import numpy as np
import pytest

from graphpipe.errors import MalformedMessage
from graphpipe.wire import Type, decode_infer_response, decode_request, encode_infer_response, encode_request
from tests.generated import graphpipe_generated as fbs

KEEP = np.array([True, False, True])


def message(*arrays):
    return b"".join(encode_request(list(arrays)))


def test_a_bool_is_told_from_a_uint8_and_the_official_classes_read_both():
    data = message(KEEP, KEEP.view(np.uint8), np.ones(2, np.float32), np.array([b"text"], object), ~KEEP)
    for _ in range(2):  # the second time it is remembered
        request = decode_request(data)
        assert request.head.bools == (0, 4)
        assert [array.tolist() for array in request.inputs[:2]] == [[1, 0, 1]] * 2
        assert {array.dtype for array in request.inputs[:2]} == {np.dtype(np.uint8)}
    infer = fbs.InferRequest()
    member = fbs.Request.GetRootAs(data).Req()
    infer.Init(member.Bytes, member.Pos)
    tensors = [infer.InputTensors(i) for i in range(5)]
    assert [tensor.IsBool() for tensor in tensors] == [True, False, False, False, True]
    assert tensors[0].Type() == Type.UINT8
    assert tensors[0].DataAsNumpy().tolist() == [1, 0, 1]


def test_layouts_with_and_without_the_mark_are_not_taken_for_each_other():
    for _ in range(3):
        assert decode_request(message(KEEP)).head.bools == (0,)
        assert decode_request(message(KEEP.view(np.uint8))).head.bools == ()


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 4)])
def test_true_travels_as_one_whatever_byte_it_was(shape):
    odd = np.array([255, 0, 2, 1], np.uint8).reshape(shape).view(bool)
    for array in (odd, odd[..., ::-1], np.asfortranarray(odd)):
        right = (array.view(np.uint8) != 0).astype(np.uint8).tolist()
        for _ in range(2):
            assert decode_request(message(array)).inputs[0].tolist() == right
            assert decode_infer_response(b"".join(encode_infer_response([array]))).outputs[0].tolist() == right


def test_answers_are_what_they_were():
    assert b"".join(encode_infer_response([KEEP])) == b"".join(encode_infer_response([KEEP.view(np.uint8)]))


def test_the_mark_on_another_type_is_refused():
    data = bytearray(message(KEEP))
    # The table's last four bytes: type, mark, padding.
    at = data.index(bytes((Type.UINT8, 1, 0, 0)))
    data[at] = Type.INT8
    with pytest.raises(MalformedMessage, match=r"a tensor of type 2 is marked as bool; only Uint8 \(1\) carries bool"):
        decode_request(bytes(data))
