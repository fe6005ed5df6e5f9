"""bin/up: the private servers, the Procfile, the demo host, and an orderly end."""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from honcho.colour import get_colours
from honcho.environ import expand_processes, parse_procfile
from honcho.printer import Message, Printer

from embedded.folders import FolderError
from embedded.keeper import Keeper, stop_all, words
from embedded.libvirtd import Libvirtd
from embedded.options import TOP, Refusal, auth, free_port, parse
from embedded.processes import end, of_folder, send, tagged, wait_until
from embedded.server import Server, ServerError
from embedded.servers import Postgres, Redis
from embedded.state import ADDRESS, default_state, take
from embedded.welcome import DEMO, Api, local_address, register_demo, things_to_try

# Marks every process of the Procfile, so that none of them outlives a crash unseen.
MARK = "VIRTUMANCER_UP"
SHELL_SYNTAX = re.compile(r"[;&|<>()`\n]")

# Together less than the ten seconds that a stop may take.
PROCESSES_PATIENCE_S = 5.0
SERVERS_PATIENCE_S = 2.0
LAST_RESORT_S = 9.5


class Stop(BaseException):
    """Ctrl-C or SIGTERM, raised in the main thread wherever it is."""


class Up:
    """Everything that one bin/up runs."""

    def __init__(self, options: argparse.Namespace, printer: Printer) -> None:
        self.options = options
        state = Path(os.environ.get("VIRTUMANCER_STATE") or default_state(TOP))
        self.state = state.absolute()
        self.bind = os.environ.get("BIND") or "127.0.0.1"
        self.port = 0
        self.auth = "tokens"
        self.servers: list[Server] = []
        self.hypervisor: Libvirtd | None = None
        self.server_keepers: list[Keeper] = []
        self.process_keepers: list[Keeper] = []
        self.environment = os.environ | {
            "BIND": self.bind,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        self._printer = printer
        self._printing = threading.Lock()
        self._colours = get_colours()
        self._stopping = False
        self._hurry = False

    def run(self) -> None:
        """Start everything, and return when a signal ends it."""
        began = time.monotonic()
        turn = take(self.state)
        self.auth = auth(self.bind, os.environ.get("VIRTUMANCER_AUTH") or "")
        self.port = free_port(self.bind, os.environ.get("PORT") or "8080")
        self.environment |= {
            "PORT": str(self.port),
            "VIRTUMANCER_AUTH": self.auth,
            MARK: str(self.state),
        }
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(signal.SIGHUP, self._on_signal)
        try:
            self._end_leftovers()
            self._start_servers()
            self._start_processes()
            self._welcome(began)
            while True:
                # Not signal.pause(): a signal that comes just before it is not heard.
                time.sleep(0.3)
        except Stop:
            self.say("stopping")
        finally:
            self._stop()
            os.close(turn)

    def say(self, text: str) -> None:
        self.print_line("up", None, text)

    def print_line(self, name: str, colour: str | None, text: str | bytes) -> None:
        now = datetime.now()
        # A terminal that has gone is no reason to end what runs.
        with self._printing, suppress(OSError):
            self._printer.write(Message("line", text, now, name, colour))

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stopping:
            self._hurry = True
            return
        self._stopping = True
        raise Stop

    def _end_leftovers(self) -> None:
        def find() -> list[int]:
            return tagged(MARK, str(self.state))

        if found := find():
            self.say(f"ending {len(found)} processes of an earlier run")
            end(find, patience_s=3)

    def _start_servers(self) -> None:
        if "DATABASE_URL" not in os.environ:
            postgres = Postgres(self.state / "postgres")
            self.environment["DATABASE_URL"] = postgres.url
            self.servers.append(postgres)
        if "REDIS_URL" not in os.environ:
            redis = Redis(self.state / "redis")
            self.environment["REDIS_URL"] = redis.url
            self.servers.append(redis)
        if not self.options.no_demo:
            self.hypervisor = Libvirtd(self.state / "libvirtd")
            self.servers.append(self.hypervisor)
            folders = [str(self.hypervisor.folder)]
            folders += [os.environ.get("VIRTUMANCER_URI_SOCKET_DIRS", "")]
            self.environment["VIRTUMANCER_URI_SOCKET_DIRS"] = ":".join(
                filter(None, folders)
            )
        if not self.servers:
            return
        self.say(f"starting {', '.join(server.name for server in self.servers)}")
        with ThreadPoolExecutor(len(self.servers)) as threads:
            list(threads.map(self._start_server, self.servers))

    def _start_server(self, server: Server) -> None:
        server.prepare()
        keeper = Keeper(
            server.name,
            lambda: _launch_server(server, again=keeper.ends > 0),
            lambda text: self.say(f"{text} (its log: {server.log})"),
            stop_signal=server.stop_signal,
        )
        self.server_keepers.append(keeper)
        keeper.start()
        answered = wait_until(
            lambda: (
                self._stopping
                or keeper.ends > 2
                or (server.running and server.answers())
            ),
            server.start_timeout_s,
        )
        if not answered or keeper.ends > 2:
            raise ServerError(f"{server.name} does not start; its log: {server.log}")
        if isinstance(server, Libvirtd):
            # Here, not above: nobody without a demo needs libvirt's library.
            from embedded.machines import define_demo

            if made := define_demo(server):
                self.say(f"made the demo machines {', '.join(made)}")

    def _start_processes(self) -> None:
        commands = parse_procfile(self.options.procfile.read_text()).processes
        release = commands.pop("release", None)
        if release:
            self._release(release)
        counts = {
            "web": self.options.webs,
            "worker": self.options.workers,
            "monitor": self.options.monitors,
        }
        processes = expand_processes(commands, concurrency=counts)
        self._printer.width = max(
            [self._printer.width, *(len(process.name) for process in processes)]
        )
        for process in processes:
            environment = self.environment
            if process.name.startswith("web.") and self.options.webs > 1:
                environment = environment | {"VIRTUMANCER_REUSE_PORT": "1"}
            keeper = self._process_keeper(process.name, process.cmd, environment)
            self.process_keepers.append(keeper)
            keeper.start()

    def _process_keeper(
        self, name: str, command: str, environment: dict[str, str]
    ) -> Keeper:
        colour = next(self._colours)
        return Keeper(
            name,
            lambda: _launch(command, environment),
            self.say,
            hear=lambda line: self.print_line(name, colour, line),
        )

    def _release(self, command: str) -> None:
        process = _launch(command, self.environment)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self.print_line("release", None, line)
            status = process.wait()
        except Stop:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if status:
            raise Refusal(f"release {words(status)}; nothing was started")

    def _welcome(self, began: float) -> None:
        api = Api(local_address(self.bind), self.port)
        if not any(keeper.name.startswith("web.") for keeper in self.process_keepers):
            return
        while not wait_until(api.answers, 30):
            self.say(f"{api.url}/api/health does not answer yet")
        (self.state / ADDRESS).write_text(api.url)
        demo = self.hypervisor is not None and self._register(api, self.hypervisor.url)
        self.say(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops it")
        with self._printing, suppress(OSError):
            print(f"\n{things_to_try(api, auth=self.auth, demo=demo)}\n", flush=True)

    def _register(self, api: Api, uri: str) -> bool:
        """Add the demo host, with a token of our own where one is needed."""
        if self.auth == "off":
            return register_demo(api, uri, self.say)
        name = f"bin-up-{os.getpid()}-{time.time():.0f}"
        reach = ("--role", "admin", "--host", DEMO, "--expires", "10m")
        token = self._token("create", name, *reach)
        try:
            return register_demo(replace(api, token=token), uri, self.say)
        finally:
            self._token("revoke", name)

    def _token(self, *words: str) -> str:
        """What ``virtumancer token`` says at the end."""
        outcome = subprocess.run(
            [sys.executable, "-P", "-m", "console", "token", *words],
            env=self.environment | {"PYTHONPATH": f"{TOP}:{TOP / 'bin'}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if outcome.returncode:
            raise Refusal(f"no token could be made: {outcome.stderr.strip()}")
        return outcome.stdout.split()[-1]

    def _stop(self) -> None:
        """The Procfile first, then the machines, then the servers they all use."""
        self._stopping = True
        (self.state / ADDRESS).unlink(missing_ok=True)
        last_resort = threading.Timer(LAST_RESORT_S, self._end_everything)
        last_resort.daemon = True
        last_resort.start()
        stop_all(self.process_keepers, PROCESSES_PATIENCE_S, lambda: self._hurry)
        end(lambda: tagged(MARK, str(self.state)), patience_s=0.5)
        if self.hypervisor is not None:
            end(self.hypervisor.machines, patience_s=0.5)
        stop_all(self.server_keepers, SERVERS_PATIENCE_S, lambda: self._hurry)
        for server in self.servers:
            server.kill()
            server.tidy()
        if self.hypervisor is not None:
            end(self.hypervisor.machines, patience_s=0.2)
        last_resort.cancel()

    def _end_everything(self) -> None:
        """What is left when the orderly end takes too long: SIGKILL, and away."""
        send(tagged(MARK, str(self.state)), signal.SIGKILL)
        for server in self.servers:
            send(of_folder(server.folder), signal.SIGKILL)
            server.tidy()
        os._exit(1)


def _launch(command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command line of the Procfile, which dies with this process."""
    # A shell in between would get the signals meant for the process.
    line = command if SHELL_SYNTAX.search(command) else f"exec {command}"
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c", line],
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _launch_server(server: Server, *, again: bool) -> subprocess.Popen[bytes]:
    if again:
        server.prepare()
    with server.log.open("ab") as log:
        return server.launch(log)


def main() -> NoReturn:
    options = parse(sys.argv[1:])
    # The servers' user must be able to pass through the folders that root makes.
    os.umask(0o022)
    try:
        Up(options, Printer(sys.stdout, width=len("monitor.1"))).run()
    except (Refusal, FolderError, ServerError) as error:
        sys.exit(f"up: {error}")
    sys.exit(0)
