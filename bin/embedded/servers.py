"""Postgres and Redis as private servers: a folder each, a unix socket, nothing else."""

import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis
from psycopg import sql

from embedded.accounts import dropping, ordinary
from embedded.folders import private, socket_path
from embedded.server import Server, ServerError

POSTGRES_HOMES = Path("/usr/lib/postgresql")
DATABASE = "virtumancer"


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
