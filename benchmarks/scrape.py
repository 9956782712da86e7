"""For how long does a scrape of the metrics keep the event loop from everybody else?

    python benchmarks/scrape.py [--models N ...] [--scrapes N] [--json]

A server in this process with so many models, all of which have counted something; another process fetches the page. The
hold is the most CPU time that the loop's thread takes between two of its turns, so that others at work on the machine
do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from graphpipe.backends.echo import Echo
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind, url_of
from graphpipe.server.settings.values import ModelSettings, Settings

FETCH = """
import sys, time, urllib.request
urllib.request.urlopen(sys.argv[1] + "/livez").read()
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    length = len(urllib.request.urlopen(sys.argv[1] + "/metrics").read())
    print(length, time.perf_counter() - began)
"""


async def measure(models: int, scrapes: int) -> dict[str, float]:
    named = [(ModelSettings(f"model{i}", "", warmup=0), Echo()) for i in range(models)]
    app = App(named, Settings(drain_grace_s=0.0))
    listener = bind("127.0.0.1:0")
    await app.start(listener)
    for service in app.directory:
        meter = service.meter
        meter.answered(200, 0.01)
        meter.ran(0.001, 0.01)
        meter.encoded(1, 0.0001)
        meter.batched(4)
        meter.waited_for_batch(0.1)
    loop, worst, last = asyncio.get_running_loop(), 0.0, time.thread_time()

    def turn() -> None:
        nonlocal worst, last, timer
        now = time.thread_time()
        worst, last = max(worst, now - last), now
        timer = loop.call_later(0.0002, turn)

    timer = loop.call_soon(turn)
    await asyncio.sleep(0.6)
    quiet, worst = worst, 0.0
    fetching = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCH, url_of(listener, tls=False), str(scrapes), stdout=asyncio.subprocess.PIPE
    )
    said = (await fetching.communicate())[0].split()
    timer.cancel()
    await app.finish()
    return {"bytes": int(said[0]), "seconds": min(map(float, said[1::2])), "hold_s": worst, "hold_without_s": quiet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=[1, 100, 1000])
    parser.add_argument("--scrapes", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    options = parser.parse_args()
    found = {}
    for models in options.models:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found[models] = runner.run(measure(models, options.scrapes))
    if options.json:
        print(json.dumps(found))
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print("models   page, bytes   fetched in   loop held at most   without a scrape")
    for models, row in found.items():
        print(
            f"{models:6}  {row['bytes']:12,}  {row['seconds'] * 1e3:8.1f} ms  {row['hold_s'] * 1e3:15.1f} ms"
            f"  {row['hold_without_s'] * 1e3:14.1f} ms"
        )


if __name__ == "__main__":
    main()
