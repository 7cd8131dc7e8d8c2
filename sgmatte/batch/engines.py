"""Who works on a batch: this process, or a team of others. processes.py has teams here, remote.py on Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sgmatte.batch.attempts import Work, died, record_of
from sgmatte.batch.manifest import Record
from sgmatte.batch.names import Job
from sgmatte.observers import Observe, silent

ATTEMPTS = 2  # of a photo whose worker dies
THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables that are read once, as their libraries are loaded."""


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


Worker = TypeVar("Worker")


@dataclass(frozen=True)
class Death:
    """A worker died instead of answering."""

    cause: str


class Team(ABC, Generic[Worker]):
    """Several workers, each with one job at a time; one that dies costs its photo alone, and that on the second try."""

    def __init__(self, task: Task, count: int) -> None:
        self.task, self.count = task, count

    def records(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Record]]:
        idle: list[Worker] = []
        busy: dict[Worker, Job] = {}
        again: deque[Job] = deque()
        tried: set[Job] = set()
        try:
            while True:
                while len(busy) < self.count and (job := again.popleft() if again else next(jobs, None)):
                    worker = idle.pop() if idle else self.hired()
                    busy[worker] = job
                    self.hand(worker, job)
                if not busy:
                    return
                for worker, answer in self.answers(list(busy)):
                    job = busy.pop(worker)
                    if not isinstance(answer, Death):
                        idle.append(worker)
                        yield job, answer
                    elif job in tried:
                        yield job, died(job, answer.cause)
                    else:
                        tried.add(job)
                        again.append(job)
        finally:
            self.dismiss([*idle, *busy])

    @abstractmethod
    def hired(self) -> Worker:
        """A new worker."""

    @abstractmethod
    def hand(self, worker: Worker, job: Job) -> None:
        """Give a worker a job, and do not wait."""

    @abstractmethod
    def answers(self, workers: Sequence[Worker]) -> list[tuple[Worker, Record | Death]]:
        """Wait until one of the busy workers answers or dies; raises what keeps all of them from working."""

    @abstractmethod
    def dismiss(self, workers: Sequence[Worker]) -> None:
        """End workers, in the middle of a photo if need be."""
