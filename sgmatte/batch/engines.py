"""Who works on a batch: this process, or several on this machine. sgmatte.batch.remote adds those of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from sgmatte.batch.attempts import Observe, Work, died, record_of, silent
from sgmatte.batch.manifest import Record
from sgmatte.batch.names import Job
from sgmatte.device import process_cores
from sgmatte.errors import SgmatteError, WeightError

ATTEMPTS = 2  # of a photo whose worker dies
THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Task(Protocol):
    """What a batch does to each photo: picklable settings, and the worker that they make."""

    def worker(self) -> Work:
        """The function that works on one photo; it may load networks, and is called where the work is done."""
        ...


class Engine(Protocol):
    """Works on jobs and yields each with its record, in the order in which they end.

    Jobs are taken from the iterator only when somebody is free for them, so that it may say which are being worked on.
    """

    def records(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Record]]:
        """Closing it ends the work at once. Raises WeightError, and what `Task.worker` raises: nothing can be done."""
        ...


class Here:
    """This process, one photo after another."""

    def __init__(self, task: Task, observe: Observe = silent) -> None:
        self.task, self.observe = task, observe

    def records(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Record]]:
        work = self.task.worker()
        for job in jobs:
            yield job, record_of(work, job, self.observe)


@dataclass
class _Worker:
    process: Any  # of the spawn context
    connection: Connection
    job: Job | None = None
    ready: bool = False


class Processes:
    """Several processes on this machine, which share its cores; one that dies costs its photo alone."""

    def __init__(self, task: Task, count: int) -> None:
        self.task, self.count = task, count
        self.threads = max(1, process_cores() // count)

    def records(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Record]]:
        workers: list[_Worker] = []
        again: deque[Job] = deque()
        deaths: dict[Job, int] = {}
        try:
            while True:
                workers = self._manned(workers, again, jobs)
                if not workers:
                    return
                busy = {worker.connection: worker for worker in workers if worker.job}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    job = worker.job
                    assert job
                    record = self._answer(worker)
                    if record is None:  # it has died
                        workers.remove(worker)
                        deaths[job] = deaths.get(job, 0) + 1
                        if deaths[job] < ATTEMPTS:
                            again.append(job)
                            continue
                        record = died(job, _cause_of_death(worker))
                    worker.job = None
                    yield job, record
        finally:
            _dismiss(workers)

    def _manned(self, workers: list[_Worker], again: deque[Job], jobs: Iterator[Job]) -> list[_Worker]:
        """The workers that have a job, new ones among them where there is more to do than there are workers."""
        for worker in workers:
            if worker.job is None:
                _hand(worker, again.popleft() if again else next(jobs, None))
        while len(workers) < self.count and (job := again.popleft() if again else next(jobs, None)) is not None:
            worker = self._hired()
            workers.append(worker)
            _hand(worker, job)
        idle = [worker for worker in workers if worker.job is None]
        _dismiss(idle, at_once=False)
        return [worker for worker in workers if worker.job is not None]

    def _hired(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.task), name="sgmatte-worker", daemon=True)
        with _environment({name: str(self.threads) for name in THREAD_LIMITS}):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _answer(self, worker: _Worker) -> Record | None:
        """What a worker says of its photo; None if it died instead.

        Raises:
            SgmatteError: it cannot work at all.
        """
        try:
            kind, content = worker.connection.recv()
            if kind == "ready":
                worker.ready = True
                kind, content = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            if not worker.ready:
                raise SgmatteError(f"a worker process cannot start ({_cause_of_death(worker)})") from None
            return None
        if kind == "refused":
            raise content
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
        while (job := connection.recv()) is not None:
            connection.send(("record", record_of(work, job)))
    except (SgmatteError, WeightError) as error:
        connection.send(("refused", error))
    except (EOFError, ConnectionError):
        pass


def _end_with(parent: int) -> None:
    """A worker whose parent was killed has nobody to tell its results, and would be in the way of the next run."""
    wait([parent])
    os._exit(1)


def _hand(worker: _Worker, job: Job | None) -> None:
    worker.job = job
    if job is not None:
        try:
            worker.connection.send(job)
        except ConnectionError:  # it has died idle; `_answer` will find out
            pass


def _dismiss(workers: list[_Worker], at_once: bool = True) -> None:
    """End workers: those without work are told to go, others stopped."""
    for worker in workers:
        if at_once:
            worker.process.terminate()
        else:
            try:
                worker.connection.send(None)
            except ConnectionError:
                continue
    for worker in workers:
        worker.process.join(5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


def _cause_of_death(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, as when the system runs out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started meanwhile: OpenMP reads them once, as it is loaded."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
