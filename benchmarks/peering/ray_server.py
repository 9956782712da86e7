"""Ray Serve: two replicas, each a process with both models, bytes in, bytes out.

A Ray on one machine and without its dashboard. It listens on every interface, whatever it is told.

    MODELS=FOLDER python ray_server.py PORT FOLDER
"""

import logging
import signal
import sys

import ray
from models import CALLS_AT_ONCE, SHAPES, Model
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=CALLS_AT_ONCE, max_ongoing_requests=16, ray_actor_options={"num_cpus": 0.5})
class Rows:
    def __init__(self) -> None:
        self.models = {name: Model(name) for name in SHAPES}

    async def __call__(self, request: Request) -> Response:
        # A call holds up the replica's loop: it is the only one that the replica has a core for.
        answer = self.models[request.url.path.strip("/")].of_bytes(await request.body())
        return Response(answer, media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[2], logging_level=logging.ERROR
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Rows.bind(), route_prefix="/")
    signal.pause()
