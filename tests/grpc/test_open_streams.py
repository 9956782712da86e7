"""Whoever calls what is not served hears so while he has more to send: a stream of his may stay open for hours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.server.life.certificates import Certificates
from tests.front.servers import InProcess, in_process
from tests.grpc import frames
from tests.grpc.frames import peer
from tests.protocols.official import message_class

NOT_SERVED = [
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
    "/inference.GRPCInferenceService/Nonsense",
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.ModelService/Predict",
    "/grpc.health.v1.Health/Watch",
    "/no.such.Service/Method",
]


def opened(channel: grpc.Channel, path: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
    """What becomes of a stream that is left open, after one message."""
    over = threading.Event()

    def sent() -> Iterator[bytes]:
        yield b"one message"
        over.wait(60)

    try:
        answers = channel.stream_stream(path)(sent(), metadata=metadata, timeout=20)
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        return refused.value.code(), refused.value.details()
    finally:
        over.set()


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, grpc.Channel]]:
    folder: Path = tmp_path_factory.mktemp("ways")
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "pair.pem")
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with (
        in_process() as tcp,
        in_process(listen=f"unix:{folder}/s") as _,
        in_process(tls=Certificates(str(folder / "pair.pem")).context) as tls,
        grpc.insecure_channel(tcp.url.removeprefix("http://").rstrip("/")) as plain,
        grpc.insecure_channel(f"unix:{folder}/s") as unix,
        grpc.secure_channel(tls.url.removeprefix("https://").rstrip("/"), trusted) as secure,
    ):
        yield {"tcp": plain, "unix": unix, "tls": secure}


@pytest.mark.parametrize("way", ["tcp", "unix", "tls"])
@pytest.mark.parametrize("path", NOT_SERVED)
def test_a_stream_to_what_is_not_served_is_refused_while_it_is_open(
    channels: dict[str, grpc.Channel], path: str, way: str
) -> None:
    code, words = opened(channels[way], path)
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert path.split("/")[-1] in words or path.split("/")[1] in words
    live = channels[way].unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=20)
    assert message_class("inference.ServerLiveResponse").FromString(live).live


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process() as running:
        yield running


@pytest.mark.parametrize("begun", [b"", frames.prefixed(b"x" * 100)[:50], frames.prefixed(b"x") * 2])
def test_not_a_byte_of_a_message_is_needed_for_that(server: InProcess, begun: bytes) -> None:
    fields = [(name, NOT_SERVED[0] if name == ":path" else value) for name, value in frames.CALL]
    with peer(server) as caller:
        for stream in (1, 3):
            caller.send(frames.head(stream, fields=fields))
            if begun:
                caller.send(frames.frame(frames.DATA, 0, stream, begun))
            assert caller.until(frames.HEADERS, stream, frames.END_STREAM)
    assert server.app.state.in_flight == 0


def test_a_stranger_hears_that_he_is_one_whether_a_method_is_served_or_not(tmp_path: Path) -> None:
    secret = new_key()
    (tmp_path / "keys").write_text(text_of(key_of("one", digest_of(secret.encode()), ["infer"])) + "\n")
    with (
        in_process(api_key_file=str(tmp_path / "keys")) as server,
        grpc.insecure_channel(server.url.removeprefix("http://").rstrip("/")) as channel,
    ):
        for path in NOT_SERVED[:2]:
            assert opened(channel, path)[0] == grpc.StatusCode.UNAUTHENTICATED
            assert opened(channel, path, ("authorization", f"Bearer {secret}"))[0] == grpc.StatusCode.UNIMPLEMENTED
