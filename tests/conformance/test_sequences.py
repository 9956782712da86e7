"""A client that sends a call again is found out, and one that does not is not."""

import base64
import http.client
import json
from urllib.parse import urlsplit

import pytest

from conformance import sequences
from conformance.adapters import python as adapter
from tests.canned import canned

CASES = [each.name for each in sequences.cases()]


def made(name):
    """A case by its name, to be used once."""
    return next(each for each in sequences.cases() if each.name == name)


def again_and_again(case, tries):
    """What a client does that sends what fails so many times, each on a connection of its own."""
    address = urlsplit(case["url"])
    results = []
    for value in case["values"]:
        result = {"ok": False, "error": "no_answer"}
        for _ in range(tries):
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=case["timeout_ms"] / 1000)
            try:
                connection.request("POST", "/", adapter.write("request", value))
                body = connection.getresponse().read()
                result = {"ok": True, "value": adapter.read("infer_response", body)}
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()
            break
        results.append(result)
    return {"id": case["id"], "ok": True, "results": results}


@pytest.mark.parametrize("name", CASES)
def test_the_python_client_passes(name):
    each = made(name)
    with canned(*each.talks) as server:
        result = adapter.calls({"id": name, "url": server.url, **each.case})
    assert each.fault(json.loads(json.dumps(result))) == ""


@pytest.mark.parametrize("name", ["is silent from the start", "resets after the first head"])
def test_a_client_that_tries_again_is_found_out(name):
    each = made(name)
    with canned(*each.talks) as server:
        result = again_and_again({"id": name, "url": server.url, **each.case}, 2)
    assert each.fault(result)


def test_what_arrives_twice_is_told_even_if_nobody_can_see_it_in_the_answers():
    each = made("answers with close each time")
    with canned(*each.talks) as server:
        case = {"id": "x", "url": server.url, **each.case}
        result = again_and_again(case, 1)
        assert each.fault(result) == ""
        again_and_again({**case, "values": case["values"][:1]}, 1)
    assert each.fault(result) == "sent more than once: ['call 1']"


def test_an_answer_that_is_another_is_no_good_end():
    each = made("is silent from the start")
    other = {"outputs": [{"type": "uint8", "shape": [], "data": base64.b64encode(b"x").decode()}], "errors": []}
    results = [{"ok": True, "value": other}, {"ok": True, "value": other}]
    assert "they end ['another answer', 'another answer']" in each.fault({"ok": True, "results": results})
