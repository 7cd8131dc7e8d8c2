"""A team of processes on this machine, which share its cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from sgmatte.batch.attempts import record_of
from sgmatte.batch.engines import THREAD_LIMITS, Death, Task, Team
from sgmatte.batch.manifest import Record
from sgmatte.batch.names import Job
from sgmatte.device import Device, chosen_device, process_cores
from sgmatte.errors import SgmatteError


@dataclass(eq=False)
class Worker:
    """A process and our end of its pipe; `ready` once it has said that it can work."""

    process: Any  # of the spawn context
    connection: Connection
    ready: bool = False


def workers_device(choice: str) -> Device:
    """`chosen_device` by a process of its own: this one would keep torch, of some 200 MB, beside those who compute.

    Raises:
        UsageError: see `chosen_device`.
        SgmatteError: the process died.
    """
    if choice == "cpu":
        return chosen_device(choice)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            with _interrupts_held():
                answer = pool.submit(chosen_device, choice)
            return answer.result()
    except BrokenProcessPool as error:
        raise SgmatteError("the process that looks for a GPU died; --device cpu needs none") from error


class Processes(Team[Worker]):
    """Processes that start anew, rather than forked, so that each has the threads that it is told to have.

    Without a number of `threads` they share the cores. Sums depend on it in their last digits.
    """

    def __init__(self, task: Task, count: int, threads: int | None = None) -> None:
        super().__init__(task, count)
        self.threads = threads or max(1, process_cores() // count)

    def hired(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.task), name="sgmatte-worker", daemon=True)
        with _environment({name: str(self.threads) for name in THREAD_LIMITS}), _interrupts_held():
            process.start()
        theirs.close()
        return Worker(process, ours)

    def hand(self, worker: Worker, job: Job) -> None:
        with suppress(ConnectionError):  # it has died idle; `answers` finds out
            worker.connection.send(job)

    def answers(self, workers: Sequence[Worker]) -> list[tuple[Worker, Record | Death]]:
        by_connection: dict[Any, Worker] = {worker.connection: worker for worker in workers}
        found: list[tuple[Worker, Record | Death]] = []
        while not found:
            for heard in wait(list(by_connection)):
                worker = by_connection[heard]
                answer = _answer(worker)
                if answer is not None:
                    found.append((worker, answer))
        return found

    def dismiss(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _answer(worker: Worker) -> Record | Death | None:
    """What a worker says of its photo; None where it has only said that it is ready, and others should not wait for it.

    Raises:
        SgmatteError: it cannot work at all.
    """
    try:
        kind, content = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        worker.connection.close()
        if not worker.ready:
            raise SgmatteError(f"a worker process cannot start ({_cause_of_death(worker)})") from None
        return Death(_cause_of_death(worker))
    if kind == "refused":
        raise content
    if kind == "ready":
        worker.ready = True
        return None
    return content


def _serve(connection: Connection, task: Task) -> None:
    """A worker process: jobs come in, records go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    parent = multiprocessing.parent_process()
    assert parent
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work = task.worker()
        connection.send(("ready", None))
        while True:
            connection.send(("record", record_of(work, connection.recv())))
    except SgmatteError as error:
        connection.send(("refused", error))
    except (EOFError, ConnectionError):
        pass


def _end_with(parent: int) -> None:
    """A worker whose parent was killed has nobody to tell its results, and would be in the way of the next run."""
    wait([parent])
    os._exit(1)


def _cause_of_death(worker: Worker) -> str:
    code = worker.process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, as when the system runs out of memory" if name == "SIGKILL" else name


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits meanwhile, and processes that are started never hear it: not even while they import, where it would
    end them with a traceback. Windows has no such mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
