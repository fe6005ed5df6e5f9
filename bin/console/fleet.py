"""A copy of the fleet that is kept up to date by what the API tells."""

import math
import re
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from common.shapes import Host, Task, Vm
from console.api import CURSOR, ENDED, Api, shaped
from console.live import Frame

TOPICS: Final = ("vms", "hosts", "tasks")
Key = tuple[str, UUID]


class Fleet:
    """Hosts, VMs and unfinished tasks, as they are at ``cursor``."""

    def __init__(self, api: Api, host: str | None, name: str | None) -> None:
        self.vms: dict[Key, Vm] = {}
        self.hosts: dict[str, Host] = {}
        self.tasks: dict[UUID, Task] = {}
        self.cursor: str | None = None
        self._api = api
        self._host = host
        self._name = re.compile(".*".join(map(re.escape, (name or "*").split("*"))))

    def read(self) -> None:
        """Read all of it anew; what changes meanwhile is told after ``cursor``."""
        first = self._api.all("/api/hosts")
        self.cursor = first.headers.get(CURSOR)
        hosts = first.of(list[Host])
        self.hosts = {host.id: host for host in hosts if self._sees(host.id)}
        if self._host and self._host not in self.hosts:
            # The API says best what is wrong with it.
            self._api.get(f"/api/hosts/{self._host}")
        vms = self._api.all("/api/vms", host=self._host).of(list[Vm])
        self.vms = {_key(vm): vm for vm in vms if self._shows(vm)}
        tasks: list[Task] = []
        for state in ("queued", "running"):
            tasks += self._api.all("/api/tasks", host=self._host, state=state).of(
                list[Task]
            )
        self.tasks = {task.id: task for task in tasks}

    def subscription(self, topics: Iterable[str] = TOPICS) -> Frame:
        """What to send to be told of what comes after ``cursor``."""
        payload: Frame = {"topics": list(topics)}
        if self._host:
            payload["hosts"] = [self._host]
        if self.cursor:
            payload["since"] = self.cursor
        return {"type": "subscribe", "payload": payload}

    def told(self, frame: Frame) -> Vm | Host | Task | None:
        """Take a frame in; what has changed by it, as it is or was."""
        if "cursor" in frame:
            self.cursor = frame["cursor"]
        payload: Any = frame["payload"]
        match frame["type"]:
            case "subscribed" if payload["missed"] == "too-old":
                with self._api.patient(math.inf):
                    self.read()
            case "vm-updated":
                return self._vm(shaped(payload, Vm))
            case "vm-removed":
                return self.vms.pop((payload["host_id"], UUID(payload["uuid"])), None)
            case "host-updated":
                return self._updated(shaped(payload, Host))
            case "host-removed":
                return self._removed(payload["id"])
            case "task-updated":
                return self._task(shaped(payload, Task))
        return None

    def busy(self, vm: Vm) -> Task | None:
        """The task that a VM is busy with."""
        for task in self.tasks.values():
            if task.host_id == vm.host_id and task.vm_uuid == vm.uuid:
                return task
        return None

    def _vm(self, vm: Vm) -> Vm | None:
        known = self.vms.get(_key(vm))
        if not self._shows(vm):
            return self.vms.pop(_key(vm), None)
        if known and (known.db_id, known.revision) > (vm.db_id, vm.revision):
            return None
        self.vms[_key(vm)] = vm
        return vm

    def _updated(self, host: Host) -> Host | None:
        if not self._sees(host.id):
            return None
        self.hosts[host.id] = host
        return host

    def _removed(self, host_id: str) -> Host | None:
        self.vms = {key: vm for key, vm in self.vms.items() if key[0] != host_id}
        return self.hosts.pop(host_id, None)

    def _task(self, task: Task) -> Task:
        if task.state in ENDED:
            self.tasks.pop(task.id, None)
        else:
            self.tasks[task.id] = task
        return task

    def _sees(self, host_id: str) -> bool:
        return self._host is None or host_id == self._host

    def _shows(self, vm: Vm) -> bool:
        return self._sees(vm.host_id) and bool(self._name.fullmatch(vm.name))


def _key(vm: Vm) -> Key:
    return (vm.host_id, vm.uuid)
