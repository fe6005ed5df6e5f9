"""Postgres and Redis as private servers: a folder each, a unix socket, nothing else.

Like all servers here they run as an ordinary user, die with the process (in fact
the thread) that started them, and start again from the same folder after `kill -9`.
"""

import signal
import subprocess
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import psycopg
import redis
from psycopg import sql

from embedded.accounts import dropping, ordinary
from embedded.folders import private, socket_path
from embedded.processes import (
    alive,
    end,
    family,
    of_folder,
    program,
    send,
    wait_until,
)

POSTGRES_HOMES = Path("/usr/lib/postgresql")
DATABASE = "virtumancer"
# A log longer than this is dropped at the next start.
LOG_BYTES = 4 * 1024 * 1024


class ServerError(Exception):
    """A private server that does not start; the words hold its last lines."""


class Server:
    """One server process with a folder of its own.

    Subclasses say how to prepare the folder, the command that runs in the
    foreground, and how to tell that it answers.
    """

    name: str
    stop_signal = signal.SIGTERM
    start_timeout_s = 60.0
    stop_timeout_s = 5.0

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.log = self.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Bring the folder into a state from which `launch` can go ahead."""
        private(self.folder)
        end(self.leftovers, patience_s=5)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.unlink()

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TZ": "UTC",
            "USER": ordinary().name,
        }

    def leftovers(self) -> list[int]:
        """Processes of an earlier run that are in the way of the next."""
        return [
            pid
            for pid in of_folder(self.folder)
            if program(pid) == self.program and pid not in self.pids
        ]

    @property
    def program(self) -> str:
        return Path(self.command()[0]).resolve().name

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self.name} has not been started")
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """The server's process and its children, empty when it does not run."""
        return family(self.process.pid) if self.running else []

    def launch(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it to answer."""
        self._process = subprocess.Popen(
            dropping(ordinary()) + self.command(),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self._process

    def start(self) -> Self:
        """Start, and return when the server answers."""
        self.prepare()
        with self.log.open("ab") as log:
            self.launch(log)
        self.wait()
        return self

    def wait(self) -> None:
        """Return when the server answers; fail when it ended or takes too long."""
        answered = wait_until(
            lambda: not self.running or self.answers(), self.start_timeout_s
        )
        if answered and self.running:
            return
        why = "does not answer" if self.running else "ended"
        self.kill()
        raise ServerError(f"{self.name} {why}:\n{self._last_lines()}")

    def stop(self) -> None:
        """End the server in order, by force when it takes too long."""
        if self.running:
            self.resume()
            send([self.process.pid], self.stop_signal)
            wait_until(lambda: not self.running, self.stop_timeout_s)
        self.kill()
        self.tidy()

    def tidy(self) -> None:
        """Remove the sockets and lock files that an ended server left."""

    def kill(self) -> None:
        """SIGKILL to all its processes, as a crash would have it."""
        if self._process is None:
            return
        pids = self.pids
        send(pids, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(alive, pids)), 5)

    def pause(self) -> None:
        """Freeze all its processes: sockets stay open and nothing answers."""
        stopped: set[int] = set()
        while fresh := set(self.pids) - stopped:
            send(sorted(fresh), signal.SIGSTOP)
            stopped |= fresh

    def resume(self) -> None:
        send(self.pids, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _last_lines(self) -> str:
        if not self.log.exists():
            return "(no output)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Postgres(Server):
    """PostgreSQL on a unix socket, holding the database `virtumancer`.

    `durable=False` is for tests: a crash of the machine may lose data then, a
    crash of the server still may not.
    """

    name = "postgres"
    # SIGINT is the fast shutdown: it does not wait for clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path | str, *, durable: bool = True) -> None:
        super().__init__(folder)
        self.data = self.folder / "data"
        self.durable = durable
        self.socket = socket_path(self.folder / ".s.PGSQL.5432")
        self.url = self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://virtumancer@/{quote(database)}?host={self.folder}"

    def prepare(self) -> None:
        super().prepare()
        # A lock file naming a number that has since gone to some other process
        # would make Postgres refuse; ours is the only one for this folder.
        self.tidy()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_min_messages": "warning",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "max_connections": "200",
            "jit": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        command = [str(self._binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def answers(self) -> bool:
        """Whether it takes queries; makes the database the first time."""
        if not self.socket.exists():
            return False
        try:
            self.create_database(DATABASE)
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database unless it is there, and give its URL."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            there = connection.execute(
                "select 1 from pg_database where datname = %s", [name]
            ).fetchone()
            if not there:
                connection.execute(
                    sql.SQL("create database {} template {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(
                    sql.Identifier(name)
                )
            )

    def tidy(self) -> None:
        for path in (self.data / "postmaster.pid", self.socket):
            path.unlink(missing_ok=True)
        self.socket.with_name(f"{self.socket.name}.lock").unlink(missing_ok=True)

    def _binaries(self) -> Path:
        """The programs of the version that made the data, else of the newest."""
        versions = {
            path.parent.parent.name: path.parent
            for path in POSTGRES_HOMES.glob("*/bin/postgres")
        }
        if not versions:
            raise ServerError(f"there is no PostgreSQL under {POSTGRES_HOMES}")
        made_by = self.data / "PG_VERSION"
        if not made_by.exists():
            return versions[max(versions, key=int)]
        version = made_by.read_text().strip()
        if version not in versions:
            raise ServerError(
                f"{self.data} was made by PostgreSQL {version}, which is no longer"
                " installed. Install it again, or move the folder away."
            )
        return versions[version]

    def _initialise(self) -> None:
        private(self.data)
        # What an interrupted initdb left would make the next one refuse.
        subprocess.run(["find", str(self.data), "-mindepth", "1", "-delete"])
        command = [str(self._binaries() / "initdb"), "-D", str(self.data)]
        command += ["--username=virtumancer", "--auth=trust", "--encoding=UTF8"]
        command += ["--locale=C.UTF-8", "--no-instructions"]
        outcome = subprocess.run(
            dropping(ordinary()) + command + ["--no-sync"] * (not self.durable),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        if outcome.returncode:
            raise ServerError(f"initdb failed:\n{outcome.stderr.strip()}")


class Redis(Server):
    """Redis on a unix socket; `durable=False` keeps nothing on the disk."""

    name = "redis"

    def __init__(self, folder: Path | str, *, durable: bool = True) -> None:
        super().__init__(folder)
        self.durable = durable
        self.socket = socket_path(self.folder / "redis.sock")
        self.url = f"unix://{self.socket}"

    def command(self) -> list[str]:
        return [
            *("/usr/bin/redis-server", "--port", "0", "--dir", str(self.folder)),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--appendonly", "yes" if self.durable else "no", "--save", ""),
            *("--daemonize", "no", "--logfile", "", "--loglevel", "warning"),
        ]

    def answers(self) -> bool:
        if not self.socket.exists():
            return False
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def tidy(self) -> None:
        self.socket.unlink(missing_ok=True)
