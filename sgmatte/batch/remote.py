"""A team on a Ray cluster: the one that RAY_ADDRESS names, else one on this machine for as long as the batch runs.

Photos and results are files that every machine of the cluster must see under the same path.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sgmatte.batch.attempts import Work, record_of
from sgmatte.batch.engines import THREAD_LIMITS, Death, Task, Team
from sgmatte.batch.manifest import Record, are_there
from sgmatte.batch.names import Job
from sgmatte.device import Device, process_cores
from sgmatte.errors import SgmatteError, UsageError


class Servant:
    """What runs inside an actor: it holds the networks."""

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled
        self.work: Work | None = None

    def answer(self, job: Job) -> Record | SgmatteError:
        """The record of a photo, or the error that keeps every photo from being worked on."""
        try:
            self.work = self.work or pickle.loads(self.pickled).worker()
        except ImportError as error:
            return SgmatteError(f"Ray's workers lack what this command has: {error}; install sgmatte there as here")
        except SgmatteError as error:
            return error
        try:
            return record_of(self.work, job)
        except SgmatteError as error:
            return error


@dataclass(eq=False)
class Worker:
    """An actor, and what it is working on."""

    actor: Any
    job: Job | None = None
    answer: Any = None  # a reference to its future answer


class Ray(Team[Worker]):
    """Actors with a GPU each where the cluster has some, else with an equal share of its cores, or with so many
    `threads`; one job at a time each.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, task: Task, count: int, threads: int | None = None) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to Ray's makers
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs Ray: pip install 'sgmatte[ray]'") from error
        self.ray = ray
        self.ours = not ray.is_initialized()
        if self.ours:
            self._connect(count)
        resources = ray.cluster_resources()
        device: Device | None = getattr(task, "device", None)
        self.gpus = (
            1 if resources.get("GPU") and device and (device.name == "cuda" or device.reason != "asked for") else 0
        )
        if self.gpus:
            task = replace(task, device=Device("cuda", "a GPU of the cluster"))  # type: ignore[type-var]
        self.cpus = threads or max(1, int(resources.get("CPU", 1)) // count)
        super().__init__(task, count)

    def _connect(self, count: int) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if os.environ.get("RAY_ADDRESS"):
                self.ray.init(**quiet)
                return
            cores = max(count, process_cores())  # more workers than cores are the user's wish
            local = partial(self.ray.init, address="local", num_cpus=cores, include_dashboard=False, **quiet)
            try:
                local()
            except Exception:  # Ray gives a start 30 s, which a busy machine may need, and raises no class of its own
                self.ray.shutdown()
                local()
        except Exception as error:
            raise SgmatteError(f"Ray does not start, or is not there: {error}") from error

    def hired(self) -> Worker:
        limits = {name: str(self.cpus) for name in THREAD_LIMITS}
        actor = self.ray.remote(Servant).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0, runtime_env={"env_vars": limits}
        )
        return Worker(actor.remote(pickle.dumps(self.task)))

    def hand(self, worker: Worker, job: Job) -> None:
        worker.job, worker.answer = job, worker.actor.answer.remote(job)

    def answers(self, workers: Sequence[Worker]) -> list[tuple[Worker, Record | Death]]:
        by_reference = {worker.answer: worker for worker in workers}
        heard, _ = self.ray.wait(list(by_reference), num_returns=1)
        return [(by_reference[reference], self._answer(by_reference[reference])) for reference in heard]

    def _answer(self, worker: Worker) -> Record | Death:
        job = worker.job
        assert job
        try:
            answer = self.ray.get(worker.answer)
        except self.ray.exceptions.RayError as error:
            return Death(type(error).__name__)
        if isinstance(answer, SgmatteError):
            raise answer
        if answer["state"] == "done" and not are_there(job):
            told = f"{job.photo}: its results are not seen here; a cluster's machines need a folder that they share"
            return {"photo": str(job.photo), "state": "failed", "passing": True, "error": told}
        return answer

    def dismiss(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            self.ray.kill(worker.actor)
        if self.ours:
            self.ray.shutdown()
