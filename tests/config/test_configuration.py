"""What is in force: flag beats environment beats file beats default, and every mistake is named."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from click.testing import CliRunner

from graphpipe.machine import memory_bytes, usable_cpus
from graphpipe.server.cli import main
from graphpipe.server.settings.configuration import SettingsError, configure, unknown_variables


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "serve.toml"
        path.write_text(text)
        return path

    return write


MODELS = '[models.a]\nsource = "echo"\n[models.b]\nsource = "echo"\n'


def threads(configuration):
    return {model.name: model.threads for model in configuration.models}


def test_flag_beats_environment_beats_file_beats_default(file):
    path = file('listen = "127.0.0.1:1"\n')
    assert configure({}, {}).settings.listen == "127.0.0.1:9000"
    assert configure({}, {}, path).settings.listen == "127.0.0.1:1"
    environment = {"GRAPHPIPE_LISTEN": "127.0.0.1:2"}
    assert configure({}, environment, path).settings.listen == "127.0.0.1:2"
    assert configure({"listen": ["127.0.0.1:3"]}, environment, path).settings.listen == "127.0.0.1:3"


def test_a_platforms_port_is_listened_on_from_outside_where_nobody_says_where_to_listen(file):
    platform = {"PORT": "8080"}
    assert configure({}, platform).settings.listen == "0.0.0.0:8080"
    assert 'listen = "0.0.0.0:8080" # environment PORT' in " ".join(str(configure({}, platform)).split())
    assert configure({}, {"PORT": ""}).settings.listen == "127.0.0.1:9000"
    # Whoever says where to listen is not bound by it, whatever it is.
    path = file('listen = "127.0.0.1:1"\n')
    for port in ("8080", "tcp://10.0.0.1:80"):
        assert configure({}, {"PORT": port}, path).settings.listen == "127.0.0.1:1"
        assert configure({}, {"PORT": port, "GRAPHPIPE_LISTEN": "127.0.0.1:2"}).settings.listen == "127.0.0.1:2"
        assert configure({"listen": ["127.0.0.1:3"]}, {"PORT": port}).settings.listen == "127.0.0.1:3"
    for port in ("tcp://10.0.0.1:80", "65536", "-1", "\u0662"):
        with pytest.raises(SettingsError, match="environment PORT: expected a number from 0 to 65535, not"):
            configure({}, {"PORT": port})


def test_what_is_said_of_one_model_beats_what_is_said_of_all_from_the_same_place(file):
    path = file(f"threads = 2\n{MODELS}threads = 5\n")
    assert threads(configure({}, {}, path)) == {"a": 2, "b": 5}
    assert threads(configure({"threads": ["a=7"]}, {}, path)) == {"a": 7, "b": 5}
    assert threads(configure({"threads": ["3", "a=7"]}, {}, path)) == {"a": 7, "b": 3}
    assert threads(configure({}, {"GRAPHPIPE_THREADS": "3 b=4"}, path)) == {"a": 3, "b": 4}


def test_models_come_from_the_command_line_or_else_the_environment_or_else_the_file(file):
    path = file(MODELS)
    assert threads(configure({"model": ["c=echo", "echo"]}, {}, path)) == {"c": 0, "echo": 0}
    assert threads(configure({}, {"GRAPHPIPE_MODEL": "c=echo 'd=my models/x.onnx'"}, path)) == {"c": 0, "d": 0}
    assert threads(configure({}, {}, path)) == {"a": 0, "b": 0}


def test_what_the_file_says_of_a_name_holds_for_a_model_of_the_command_line(file):
    path = file("[models.a]\nthreads = 6\n")
    assert threads(configure({"model": ["a=echo"]}, {}, path)) == {"a": 6}


def test_a_file_may_list_models_as_the_flag_does(file):
    path = file('model = ["echo", "a=other.onnx"]\n')
    assert [(m.name, m.source) for m in configure({}, {}, path).models] == [("echo", "echo"), ("a", "other.onnx")]


def test_the_variables_of_the_original_hold_and_ours_beat_them():
    environment = {
        "GP_MODEL": "my models/m.onnx",
        "GP_INPUTS": "x, y",
        "GP_OUTPUTS": "z",
        "GP_VALUE_INPUTS": "values.json",
    }
    (model,) = configure({}, environment).models
    assert (model.name, model.source) == ("m", "my models/m.onnx")
    assert model.options.inputs == ("x", "y")
    assert model.options.outputs == ("z",)
    assert model.options.value_inputs == "values.json"
    (model,) = configure({}, {**environment, "GRAPHPIPE_INPUTS": "w", "GRAPHPIPE_MODEL": "echo"}).models
    assert (model.source, model.options.inputs) == ("echo", ("w",))


def test_an_empty_variable_is_one_that_is_not_set():
    assert configure({}, {"GP_MODEL": "", "GRAPHPIPE_LISTEN": ""}) == configure({}, {})


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("512MB", 512_000_000), ("1GiB", 1 << 30), ("1.5 KiB", 1536), ("2kb", 2000), ("7B", 7)],
)
def test_sizes_have_units(text, size):
    assert configure({"body-bytes-max": [text]}, {}).settings.body_bytes_max == size


def test_a_switch_is_switched_off_where_somebody_else_switched_it_on(file):
    path = file(f"cast = true\n{MODELS}")
    assert [m.cast for m in configure({}, {}, path).models] == [True, True]
    assert [m.cast for m in configure({"cast": ["false"]}, {}, path).models] == [False, False]
    assert [m.cast for m in configure({"cast": ["b=no"]}, {}, path).models] == [True, False]


def test_what_is_printed_is_a_file_that_says_the_same(file):
    environment = {"GRAPHPIPE_BODY_BYTES_MAX": "64MiB"}
    first = configure({"threads": ["b=3"], "inputs": ['a=x,"y\\']}, environment, file(f"cast = true\n{MODELS}"))
    again = configure({}, {}, file(str(first)))
    assert tomllib.loads(str(again)) == tomllib.loads(str(first))
    # What follows from the machine is written as a number.
    assert [replace(model, threads=0) for model in again.models] == [
        replace(model, threads=0) for model in first.models
    ]
    assert replace(again.settings, in_flight_bytes_max=0) == first.settings


def test_what_follows_from_the_machine_is_printed_as_the_number_in_force(file):
    printed = str(configure({"model": ["echo", "far=http://127.0.0.1:1/"], "workers": ["2"]}, {}))
    table = tomllib.loads(printed)
    assert table["models"]["echo"]["threads"] == usable_cpus()
    # How many calls make sense for a server elsewhere is its own matter.
    assert table["models"]["far"]["threads"] == 0
    room = configure({"in-flight-bytes-max": [str(table["in-flight-bytes-max"])]}, {}).settings.in_flight_bytes_max
    assert room == memory_bytes() // 4 // 2
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert f"threads = {usable_cpus()} # default: usable CPUs" in lines


def test_the_largest_body_gives_way_to_the_bytes_in_flight_unless_it_was_asked_for(file):
    assert configure({"in-flight-bytes-max": ["10MB"]}, {}).settings.body_bytes_max == 10_000_000
    assert "body-bytes-max = 10000000" in str(configure({"in-flight-bytes-max": ["10MB"]}, {}))
    # Sixty-four workers leave little to each, whatever the machine.
    share = memory_bytes() // 4 // 64
    assert configure({"workers": ["64"]}, {}).settings.body_bytes_max == min(1 << 30, share)
    both = {"in-flight-bytes-max": ["10MB"], "body-bytes-max": ["8MB"]}
    assert configure(both, {}).settings.in_flight_cap() == 10_000_000
    with pytest.raises(SettingsError, match="10000000 has no room for one body of --body-bytes-max 11000000"):
        configure(both | {"body-bytes-max": ["11MB"]}, {})


def test_what_is_printed_says_where_each_value_comes_from(file):
    path = file(f"threads = 2\n{MODELS}")
    printed = str(configure({"threads": ["b=3"]}, {"GRAPHPIPE_LISTEN": "127.0.0.1:1", "GP_INPUTS": "x"}, path))
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert 'listen = "127.0.0.1:1" # environment GRAPHPIPE_LISTEN' in lines
    assert f"threads = 2 # file {path}" in lines
    assert "threads = 3 # flag --threads" in lines
    assert 'inputs = ["x"] # environment GP_INPUTS' in lines
    assert "admission-wait-s = 1 # default" in lines
    assert list(tomllib.loads(printed)["models"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thread = 2\n", "there is no setting 'thread'; did you mean 'threads'?"),
        ("body_bytes_max = 2\n", "did you mean 'body-bytes-max'?"),
        ("[model.a]\nsource='echo'\n", "model: expected a source, or a list of them"),
        ("[models.a]\nsource='echo'\nthreds=1\n", "[models.a]: there is no setting 'threds'; did you mean 'threads'?"),
        ("[models.a]\nsource='echo'\nlisten='x'\n", "listen is for the whole server"),
        ("[models.a]\nthreads=1\n", "[models.a] has no source"),
        ("[models.a]\nsource=1\n", "source: expected text"),
        ("[models.'a b']\nsource='echo'\n", "a model's name has letters"),
        ("models = 1\n", "expected tables"),
        ("config = 'x'\n", "there is no setting 'config'"),
        ("threads = 'many'\n", "threads: expected a whole number from 0 to 1024; 'many' came"),
        ("threads = true\n", "expected a whole number"),
        ("threads = 2.5\n", "expected a whole number"),
        ("body-bytes-max = '3 GiB'\n", "from 1 to 2147483647"),
        ("body-bytes-max = '3 parsecs'\n", "like 65536, 512MB or 1GiB"),
        ("admission-wait-s = -1\n", "expected a number of at least 0"),
        ("admission-wait-s = 'nan'\n", "expected a number"),
        ("listen = 2.5\n", "expected HOST:PORT, [IPv6]:PORT, unix:PATH or a port; 2.5 came"),
        ("listen = 65536\n", "expected a port from 0 to 65535, or HOST:PORT; 65536 came"),
        ("tls-cert = 9000\n", "expected text"),
        ("inputs = [1]\n", "expected names"),
        ("inputs = ','\n", "at least one name"),
        ("listen = \n", "not TOML"),
        ("model = ['echo', 'echo']\n", "two models are called 'echo'"),
    ],
)
def test_a_mistake_in_the_file_is_named(file, text, message):
    path = file(text)
    with pytest.raises(SettingsError) as error:
        configure({}, {}, path)
    assert message in str(error.value)
    assert str(path) in str(error.value) or "two models" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": ["c=3"], "model": ["cat=echo"]}, "there is no model 'c'; there are cat"),
        ({"threads": ["x=3"]}, "there is no model 'x'; no model is given"),
        ({"threads": ["x"]}, "--threads: expected a whole number"),
        ({"threads": ["echo=x"], "model": ["echo"]}, "--threads echo: expected a whole number"),
        ({"model": ["echo", "echo"]}, "two models are called 'echo'; name them: -m NAME=SOURCE"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(arguments, message):
    with pytest.raises(SettingsError) as error:
        configure(arguments, {})
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        configure({}, {}, tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="Is a directory"):
        configure({}, {}, tmp_path)
    with pytest.raises(SettingsError, match="null byte"):
        configure({}, {}, "a\0b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\0", "not TOML"),
        (b"listen = '\xff'", "not TOML: 'utf-8' codec"),
        ("threads = 2".encode("utf-16"), "not TOML: 'utf-8' codec"),
        (b"threads = 1\nthreads = 2", "not TOML: Cannot overwrite a value"),
        (b"threads = 2020-02-31", "not TOML: Invalid date"),
        (b"threads = " + b"[" * 100_000, "not TOML: maximum recursion depth"),
        (b"threads = " + b"9" * 5000, "not TOML: Exceeds the limit"),
        (
            b"threads = 0x" + b"f" * 9000,
            "threads: expected a whole number from 0 to 1024; a number of endless length came",
        ),
        (b"access-lines-per-s = 0x" + b"f" * 9000, "access-lines-per-s: expected a whole number"),
        (b"admission-wait-s = " + b"9" * 400, "admission-wait-s: expected a number of at least 0; 999"),
        (b"admission-wait-s = nan", "expected a number of at least 0; nan came"),
        (b"memory-limit-bytes = " + b"9" * 400, "expected a number of bytes"),
        (b"threads = 1979-05-27", "expected a whole number from 0 to 1024; datetime.date(1979, 5, 27) came"),
        (b"threads = [1, 2]", "expected a whole number from 0 to 1024; [1, 2] came"),
        (b"listen = [" + b"'x'," * 10_000 + b"]", "listen: expected HOST:PORT, [IPv6]:PORT, unix:PATH or a port; ['x'"),
        (b"[[models]]\nsource = 'echo'", "models: expected tables"),
        (b"a" * 100_000 + b" = 1", "there is no setting 'aaa"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value[:24]),
)
def test_what_is_odd_about_a_file_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as error:
        configure({}, {}, path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    result = CliRunner().invoke(main, ["--config", str(path), "-m", "echo"])
    assert result.exit_code == 2, result.output


def test_a_file_may_be_empty_or_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_bytes(b"")
    assert configure({}, {}, path).settings == configure({}, {}).settings
    path.write_bytes(b"\xef\xbb\xbflisten = '127.0.0.1:1'\n")
    assert configure({}, {}, path).settings.listen == "127.0.0.1:1"


def test_two_values_for_all_models_in_one_variable_are_one_too_many():
    with pytest.raises(SettingsError, match="two values for all models"):
        configure({"model": ["echo"]}, {"GRAPHPIPE_INPUTS": "x, y"})


def test_a_misspelt_variable_is_noticed_and_a_strange_one_is_not():
    environment = {"GRAPHPIPE_THREDS": "1", "GRAPHPIPE_SERVICE_HOST": "10.0.0.1", "GRAPHPIPE_THREADS": "1"}
    assert unknown_variables(environment) == [("GRAPHPIPE_THREDS", "GRAPHPIPE_THREADS")]


def test_mistakes_are_usage_errors():
    for arguments in (["--model", "echo", "--threads", "x"], [], ["--config", "/none.toml"], ["--no-such-flag"]):
        result = CliRunner(env={"GP_MODEL": "", "GRAPHPIPE_MODEL": ""}).invoke(main, arguments)
        assert result.exit_code == 2, result.output


def test_the_command_prints_what_is_in_force(file):
    path = file("threads = 2\n")
    environment = {"GRAPHPIPE_CONFIG": str(path)}
    arguments = ["--print-config", "-m", "echo", "--cast", "-vv", "--threads", "echo=3"]
    result = CliRunner(env=environment).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    table = tomllib.loads(result.output)
    assert table["verbose"] == 2
    assert table["models"]["echo"]["cast"] is True
    assert table["models"]["echo"]["threads"] == 3
