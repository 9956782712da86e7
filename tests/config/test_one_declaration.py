"""A setting is one thing, wherever it is said: on the command line, in the environment, in a file, in Python."""

from __future__ import annotations

import json
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.backends.options import LoadOptions
from graphpipe.server.settings.configuration import SettingsError, configure, configure_from_python
from graphpipe.server.settings.flags import FLAGS, Flag
from tests.type_checked import mypy_errors

SETTABLE = {flag.field: flag for flag in FLAGS if flag.scope != "command"}
WORDS = st.text("abcXYZ019 .:/_-äß", min_size=1, max_size=12).filter(lambda text: text.strip() == text)
NAMES = st.lists(st.text("abc:19_", min_size=1, max_size=6), min_size=1, max_size=3).map(tuple)


def values_of(flag: Flag) -> st.SearchStrategy:
    """Values that a setting may have, as its field holds them: found by asking its kind."""
    candidates = {
        bool: st.booleans(),
        int: st.integers(0, 1 << 45),
        float: st.floats(0, 1e6).map(lambda x: round(x, 3)),
        str: st.sampled_from(flag.kind.choices) if flag.kind.choices else WORDS,
        tuple: st.lists(st.integers(1, 1 << 20), min_size=1, max_size=4) if flag.field == "batch_sizes" else NAMES,
    }
    default = () if flag.default is None else flag.default

    def is_fit(value: object) -> bool:
        try:
            flag.kind.read(value)
        except ValueError:
            return False
        return True

    found = candidates[type(default)]
    if type(default) is int:
        found = st.one_of(st.integers(0, 9), st.integers(0, 1024), found)
    return found.filter(is_fit).map(flag.kind.read)


def in_words(value: object) -> str:
    """As it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def in_toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


SAID = st.lists(st.sampled_from(sorted(SETTABLE)), max_size=6, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: values_of(SETTABLE[name]) for name in names})
)


@given(SAID)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_settings_are_the_same_by_flag_by_environment_by_file_and_by_python(tmp_path_factory, said):
    path = tmp_path_factory.mktemp("config") / "serve.toml"
    lines = [f"{SETTABLE[name].name} = {in_toml(value)}" for name, value in said.items()]
    path.write_text("\n".join(['model = "m=echo"', *lines]))
    flags = {SETTABLE[name].name: [in_words(value)] for name, value in said.items()}
    # A shell's quotes hold what has spaces; only what may be said of single models is read as words.
    quoted = {
        SETTABLE[name].env: f"'{in_words(value)}'" if SETTABLE[name].scope == "model" else in_words(value)
        for name, value in said.items()
    }
    ways = (
        lambda: configure({"model": ["m=echo"], **flags}, {}),
        lambda: configure({"model": ["m=echo"]}, quoted),
        lambda: configure({}, {}, path),
        lambda: configure_from_python("serve", "m", "echo", said),
    )
    results = []
    for way in ways:
        try:
            made = way()
            results.append((made.settings, made.models))
        except SettingsError as error:  # they contradict each other: in the same words, but for where they stand
            results.append(str(error).partition(" (")[0])
    if isinstance(results[0], str) and results[1] != results[0]:
        # The environment may speak to models that are not served.
        refused, does_nothing, _ = results[0].partition(" does nothing without ")
        assert does_nothing
        assert SETTABLE[refused.removeprefix("--").replace("-", "_")].scope == "model"
        del results[1]
    assert all(result == results[0] for result in results)
    if not isinstance(results[0], str):
        server, (model,) = results[0]
        for name, value in said.items():
            homes = [home for home in (server, model.options, model) if hasattr(home, name)]
            assert getattr(homes[0], name) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("threads", "many", "many"),
        ("threads", "-1", -1),
        ("body_bytes_max", "3 GiB", "3 GiB"),
        ("body_bytes_max", "3 parsecs", "3 parsecs"),
        ("admission_wait_s", "nan", float("nan")),
        ("log_format", "xml", "xml"),
        ("cast", "maybe", "maybe"),
        ("batch_sizes", "1,x", [1, "x"]),
        ("inputs", ",", ","),
    ],
)
def test_a_wrong_value_is_refused_in_the_same_sentence_wherever_it_stands(tmp_path, name, text, value):
    flag = SETTABLE[name]
    path = tmp_path / "serve.toml"
    path.write_text(f"{flag.name} = {json.dumps(text)}\n")
    sentences = set()
    for way in (
        lambda: configure({flag.name: [text]}, {}),
        lambda: configure({}, {flag.env: f"'{text}'" if flag.scope == "model" else text}),
        lambda: configure({}, {}, path),
        lambda: graphpipe.serve("echo", **{name: value}),
        lambda: graphpipe.serving("echo", **{name: value}),
        *([lambda: graphpipe.load("echo", **{name: value})] if flag.home is LoadOptions else []),
    ):
        with pytest.raises((SettingsError, TypeError)) as refused:
            way()
        sentences.add(str(refused.value).partition("expected")[2].partition(";")[0])
    assert len(sentences) == 1
    assert sentences != {""}


def test_a_name_that_no_setting_has_is_met_with_the_one_that_was_meant():
    for wrong, right in (("thread", "threads"), ("body_byte_max", "body_bytes_max"), ("batch-sizes", "batch_sizes")):
        with pytest.raises(TypeError, match=f"no setting '{wrong}'; did you mean '{right}'"):
            graphpipe.serve("echo", **{wrong: 1})
    with pytest.raises(TypeError, match=r"no setting 'zzz'; it has access_lines_per_s, .* workers"):
        graphpipe.serve("echo", zzz=1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"batch_pad": "x:1:0"}, "--batch-pad does nothing without --batch-rows-max or --batch-sizes"),
        ({"batch_wait_ms": 5}, "--batch-wait-ms does nothing without --batch-rows-max or --batch-sizes"),
        ({"queue_rows_max": 5}, "--queue-rows-max does nothing without"),
        ({"cache_dir": "rows"}, "--cache-dir does nothing without --cache"),
        ({"cache_bytes_max": 1 << 21}, "--cache-bytes-max does nothing without --cache"),
        ({"cache_ttl_s": 5}, "--cache-ttl-s does nothing without --cache"),
        ({"cache_version": "2"}, "--cache-version does nothing without --cache"),
        ({"cache_fresh_ms": 5}, "--cache-fresh-ms does nothing without --cache"),
        ({"tls_key": "key.pem"}, "--tls-key does nothing without --tls-cert"),
        ({"in_flight_bytes_max": 9, "body_bytes_max": 10}, "has no room for one body"),
    ],
)
def test_what_would_do_nothing_is_refused_on_every_way(said, words):
    flags = {SETTABLE[name].name: [str(value)] for name, value in said.items()}
    with pytest.raises(SettingsError, match=words) as refused:
        configure({"model": ["echo"], **flags}, {})
    assert f"flag {next(f'--{name}' for name in flags)}" in str(refused.value)
    with pytest.raises(ValueError, match=words):
        graphpipe.serve("echo", "127.0.0.1:0", **said)


def test_a_variable_may_speak_to_models_that_are_not_served_and_not_to_a_server_that_is() -> None:
    """An image has an environment for whichever models it is given; a key without a certificate would serve plain http."""
    assert configure({"model": ["echo"]}, {"GRAPHPIPE_CACHE_DIR": "/rows", "GRAPHPIPE_BATCH_WAIT_MS": "5"})
    with pytest.raises(SettingsError, match="--tls-key does nothing without --tls-cert"):
        configure({"model": ["echo"]}, {"GRAPHPIPE_TLS_KEY": "key.pem"})


def test_what_is_of_use_to_one_model_may_be_said_of_all_and_not_of_another():
    models = {"model": ["a=echo", "b=echo"]}
    made = configure({**models, "batch-wait-ms": ["5"], "batch-rows-max": ["a=8"]}, {})
    assert [model.batch_rows_max for model in made.models] == [8, 0]
    assert configure({**models, "batch-wait-ms": ["5"], "batch-sizes": ["b=8"]}, {})
    with pytest.raises(SettingsError, match="--batch-pad does nothing"):
        configure({**models, "batch-pad": ["b=x:1:0"], "batch-rows-max": ["a=8"]}, {})


def test_a_type_checker_finds_the_keywords_that_are_wrong_and_no_others(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""\
            from pathlib import Path
            import graphpipe
            graphpipe.serve("echo", threads=4, body_bytes_max="64MiB", batch_sizes=[1, 8], cache_dir=Path("x"))
            graphpipe.serve("echo", "127.0.0.1:0", name="m", inputs=("x",), log_format="json", cast=True, drain_grace_s=1)
            graphpipe.serve("echo", threads="4")
            graphpipe.serve("echo", nosuch=1)
            graphpipe.serve("echo", log_format="xml")
            graphpipe.load("echo", inputs=["x"], intra_threads=2, custom_ops=[Path("x")])
            graphpipe.load("echo", provider="cpu")
            graphpipe.load("echo", bfloat16="yes")
            with graphpipe.serving("echo", 9000, process=True, threads=4) as server:
                server.url.upper()
            graphpipe.serving("echo", thread=4)


            @graphpipe.model
            def f(x: int) -> int:
                return x

            @graphpipe.model(outputs="label")
            def g(x: int) -> int:
                return f(x)

            graphpipe.model(42)
        """)
    )
    found = mypy_errors(tmp_path, program.name)
    assert sorted(line for _, line in found) == [5, 6, 7, 9, 10, 13, 24]
