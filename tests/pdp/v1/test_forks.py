"""A process that starts a program is not stopped by gRPC, which would do something of its own around each fork."""

import os
import subprocess
import sys

PROGRAM = """
import asyncio, os, sys
import pdp.v1
import grpc.aio, uvloop

async def ask(channel):
    while True:
        try:
            await channel.unary_unary("/a/b")(b"", timeout=0.2, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            pass
        await asyncio.sleep(0.005)

async def main():
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    channels = [grpc.aio.insecure_channel(f"unix:{sys.argv[1]}/{n}", options=options) for n in range(4)]
    asking = [asyncio.create_task(ask(channel)) for channel in channels]
    for _ in range(30):
        await (await asyncio.create_subprocess_exec(sys.executable, "-c", "")).wait()
    print("done", flush=True)
    os._exit(0)

uvloop.run(main())
"""


def test_nothing_of_grpc_happens_around_a_fork(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    # The library says so where it does, or finds that it cannot.
    assert "fork" not in done.stderr
