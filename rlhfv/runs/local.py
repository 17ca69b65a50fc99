"""Runs on this machine: frozen folders, worker processes that outlive the studio, and a queue they wait in.

A run's state is never stored. It is read each time from what the worker process and its events say, so it stays true
when the worker, the studio or the machine is killed. Stored, outside the folder, is only what a folder cannot say:
its place in the queue, the worker's pid and start time, and whether a person asked it to stop.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

import rlhfv
from rlhfv.errors import NotFound, RunFailed, StudioError
from rlhfv.run_folder import RunFolder, check_name, now
from rlhfv.runs.machine import count_gpus, has_gpu, is_accelerate_configured
from rlhfv.runs.processes import Gate, Process
from rlhfv.runs.state import ALIVE, Record, Run, Tail, read_state

SECONDS_UNTIL_KILL = 60.0
LAUNCH_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "86400"}
"""For whatever `build_command` gives. Asked to stop, the launcher of several processes would kill them after 30 s,
while they finish a step and write its checkpoint; here a person decides how long that may take."""
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


@dataclass
class LocalRuns:
    """The runs below `data_dir`/runs. Any number of these objects, in any number of processes, show the same. What
    trains here ends after `run_seconds` with what it has learnt by then; its folder does not know of that."""

    data_dir: Path
    run_seconds: float | None = None
    _tails: dict = field(default_factory=dict, repr=False)
    _gone: set = field(default_factory=set, repr=False)
    _children: list = field(default_factory=list, repr=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self):
        self.data_dir = Path(self.data_dir).resolve()
        self.folder = self.data_dir / "runs"
        self.records = self.data_dir / "run_records"
        self.locations_file = self.data_dir / "locations.json"
        for folder in (self.folder, self.records):
            folder.mkdir(parents=True, exist_ok=True)

    # ---- what there is

    def list(self) -> list[Run]:
        """All runs, newest first."""
        ids = [entry.name for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        places = self._places()
        runs = []
        for run_id in ids:
            try:
                runs.append(self._read(run_id, places))
            except NotFound:  # deleted meanwhile
                continue
            except StudioError as error:
                runs.append(Run(run_id, "training", run_id, "failed", "", {}, error=str(error)))
        return sorted(runs, key=lambda run: (run.created, run.id), reverse=True)

    def get(self, run_id: str) -> Run:
        """Raises NotFound for an id that names no run."""
        return self._read(self.open(run_id).id, self._places())

    def open(self, run_id: str) -> RunFolder:
        """The folder of a run. Raises NotFound for an id that names none."""
        if not (self.folder / check_name(run_id, "run id")).is_dir():
            raise NotFound(f"There is no run {run_id!r}.", "It was deleted, or never was.", "Pick one from the list.")
        return RunFolder(self.folder / run_id)

    # ---- what can be done

    def start(
        self,
        config: dict,
        rows: Iterable[dict],
        image_path: Callable[[str], Path],
        base_path: Path | None = None,
        adapters: Mapping[str, Path] | None = None,
        memory: int = 0,
        alone: bool = False,
        hold: bool = False,
    ) -> Run:
        """Freeze a folder and queue it; it starts at once when nothing else runs.

        Args:
            config: as in `run_folder`; id, time and package versions are added here.
            rows: the pairs; `image_path` gives the path of each of their pictures.
            base_path: where a base lives that is a folder; kept outside the run and told to the worker.
            adapters: name → folder, copied into the run.
            memory: bytes; it stays in the queue until so many are free, and others go before it.
            alone: while it works the studio holds no model, see `find_alone`.
            hold: it is not queued: another machine is to train it.
        """
        config = {
            "title": f"{config['kind']} of {now()[:16].replace('T', ' ')}",
            "parent": None,
            **config,
            "created": now(),
            "versions": _versions(),
        }
        folder = RunFolder(self.folder / _new_id())
        folder.create(config, rows, image_path, adapters)
        with self._locked():
            if base_path is not None:
                self._remember_location(config, base_path)
            queued = None if hold else time.time_ns()
            self._write_record(folder.id, Record(queued=queued, memory=memory, alone=alone))
        self.start_next()
        return self.get(folder.id)

    def duplicate(
        self,
        run_id: str,
        changes: dict | None = None,
        title: str | None = None,
        memory: int = 0,
        alone: bool = False,
        hold: bool = False,
    ) -> Run:
        """A new run from the frozen pairs of another, with some settings changed; `parent` names the other."""
        old = self.open(run_id)
        config = old.read_config()
        settings = {**config.get(config["kind"], {}), **(changes or {})}
        if config["kind"] == "training":
            from rlhfv.ddpo.config import TrainingConfig

            settings = TrainingConfig.from_dict(settings).to_dict()
        config = {**config, config["kind"]: settings, "parent": run_id, "title": title or f"{config['title']} (again)"}
        adapters = {path.name: path for path in old.adapters.iterdir()} if old.adapters.is_dir() else None
        place = {"memory": memory, "alone": alone, "hold": hold}
        return self.start(config, old.read_rows(), old.image_path, adapters=adapters, **place)

    def stop(self, run_id: str) -> Run:
        """Take a run out of the queue, or ask its worker to keep a checkpoint and end. Asked again after a minute, it
        is killed; what its last checkpoint holds is kept. A run that is not at work is left as it is."""
        folder = self.open(run_id)
        with self._locked():
            record = self._record(run_id)
            if record.waits:
                record.queued = None
                self._write_record(run_id, record)
            elif record.process is not None and record.process.is_alive():
                late = record.stop_asked is not None and time.time() - record.stop_asked > SECONDS_UNTIL_KILL
                record.stop_asked = record.stop_asked or time.time()
                self._write_record(run_id, record)  # before the signal: a death after it was asked for
                record.process.signal(signal.SIGKILL if late else signal.SIGTERM)
            elif self._at_work(record, run_id):  # started by hand: its pid is not known here
                folder.stop_file.touch()
        return self.get(run_id)

    def resume(self, run_id: str, memory: int = 0, alone: bool = False) -> Run:
        """Queue a stopped or failed run again, in the same folder; the worker goes on from its last checkpoint."""
        with self._locked():
            run = self.get(run_id)
            if run.state not in ("stopped", "failed"):
                raise RunFailed(
                    f"The run “{run.title}” cannot be resumed.",
                    f"It is {run.state}.",
                    "Duplicate it to run it once more." if run.state == "done" else "Stop it first.",
                )
            events_from = self._events_size(run_id)
            record = Record(queued=time.time_ns(), events_from=events_from, memory=memory, alone=alone)
            self._write_record(run_id, record)
        self.start_next()
        return self.get(run_id)

    def note_remote(self, run_id: str, remote: dict) -> int:
        """Keep how a run stands that trains elsewhere; `remote` is empty for one that never came there. Returns where
        in its events those of its other machine begin.

        Raises RunFailed for a run that is queued or at work here.
        """
        with self._locked():
            record = self._record(run_id)
            if record.waits or self._at_work(record, run_id):
                raise RunFailed(f"The run {run_id!r} is at work here.", "It trains in one place.", "Stop it first.")
            if record.remote.get("repo") != remote.get("repo"):
                record = Record(events_from=self._events_size(run_id))
            self._write_record(run_id, replace(record, remote=remote))
            return record.events_from

    def delete(self, run_id: str) -> None:
        """Delete a run with its adapter. Refused while it is at work."""
        with self._locked():
            self.open(run_id)
            record = self._record(run_id)
            if self._at_work(record, run_id) or record.remote.get("state") in (*ALIVE, "queued"):
                raise RunFailed(
                    f"The run {run_id!r} cannot be deleted.",
                    f"It is {self.get(run_id).state}.",
                    "Stop it and wait until it ends.",
                )
            doomed = self.folder / f".deleted-{run_id}-{secrets.token_hex(4)}"
            os.rename(self.folder / run_id, doomed)
            (self.records / f"{run_id}.json").unlink(missing_ok=True)
            with self._mutex:
                self._tails.pop(run_id, None)
        shutil.rmtree(doomed, ignore_errors=True)

    def export(self, run_id: str, folder: Path, merge: bool = False) -> Path:
        """Write a training run's adapter, or with `merge` the whole model, to a folder that other software serves;
        what a full tuning made is a whole model in either case. Raises RunFailed when the run made nothing or the
        folder exists."""
        from rlhfv.ddpo.export import export_run

        run_folder = self.open(run_id)
        return export_run(run_folder, Path(folder), merge=merge, base_path=self.base_path(run_folder.read_config()))

    def base_path(self, config: dict) -> Path | None:
        """Where the base of a run lives, when it is a folder of this machine."""
        found = self._locations().get(_base_key(config))
        return Path(found) if found else None

    # ---- the queue

    def start_next(self) -> str | None:
        """Start the oldest queued run unless one is at work. Safe to call from any thread of any process; one wins.
        Returns the id of the run that was started."""
        with self._locked():
            self._children = [child for child in self._children if child.poll() is None]
            queued = []
            for run_id, record in self._all_records():
                if record.process is not None and self._at_work(record, run_id):
                    return None
                if record.process is None and record.queued is not None:
                    if self.open(run_id).is_claimed():
                        return None
                    queued.append((record.queued, run_id, record))
            for _, run_id, record in sorted(queued, key=lambda item: item[:2]):
                if record.memory and _free_memory() < record.memory:
                    continue
                folder = self.open(run_id)
                record.events_from = self._events_size(run_id)
                try:
                    config = folder.read_config()
                    command = build_command(config["kind"], folder.path)
                    gate = Gate(command, _ROOT, folder.log_file, self._environment(config))
                except (StudioError, OSError) as error:  # told as this run's failure; the next one has its turn
                    record.queued = None
                    self._write_record(run_id, record)
                    folder.append_error(error)
                    continue
                record.process = gate.process
                self._write_record(run_id, record)
                self._children.append(gate.open())
                return run_id
            return None

    def find_alone(self) -> Run | None:
        """The run at work beside which the studio may hold no model."""
        for run_id, record in self._all_records():
            if record.alone and record.process is not None and self._at_work(record, run_id):
                return self.get(run_id)
        return None

    # ---- how state is read

    def _read(self, run_id: str, places: dict[str, int]) -> Run:
        folder = RunFolder(self.folder / run_id)
        config = folder.read_config()
        record = self._record(run_id)
        alive = self._at_work(record, run_id)
        tail = self._tail(folder, record)  # after the look at the process: what it wrote last is then in the file
        state = read_state(record, tail, alive, known=(self.records / f"{run_id}.json").exists())
        lines = tuple(folder.read_log())
        error = ""
        if state == "failed" and record.remote:
            error = tail.error or record.remote["error"]
        elif state == "failed":
            error = tail.error or "The worker ended without a word. " + (
                f"Its last line: {lines[-1]}" if lines else "It was killed, perhaps because memory ran out."
            )
        return Run(
            id=run_id,
            kind=config["kind"],
            title=config.get("title", run_id),
            state=state,
            created=config.get("created", ""),
            config=config,
            parent=config.get("parent"),
            step=tail.step,
            total_steps=tail.total_steps,
            eta=tail.eta if state in ALIVE else self._longest_wait(places.get(run_id)) if state == "queued" else None,
            place=places.get(run_id) if state == "queued" else None,
            memory=record.memory if state == "queued" else 0,
            error=error,
            lines=lines,
            has_adapter=(folder.adapter / "adapter_config.json").exists(),
            has_model=(folder.model / "config.json").exists(),
            remote=record.remote,
        )

    def _at_work(self, record: Record, run_id: str) -> bool:
        process = record.process
        if process is not None and process not in self._gone:
            if process.is_alive():
                return True
            self._gone.add(process)
        return RunFolder(self.folder / run_id).is_claimed()

    def _tail(self, folder: RunFolder, record: Record) -> Tail:
        with self._mutex:
            begin, tail = self._tails.get(folder.id, (None, None))
            if begin != record.events_from or tail is None:
                tail = Tail(record.events_from)
            events, tail.offset = folder.read_events(tail.offset)
            for event in events:
                tail.take(event)
            self._tails[folder.id] = (record.events_from, tail)
            return replace(tail)

    def _places(self) -> dict[str, int]:
        waiting = [(record.queued, run_id) for run_id, record in self._all_records() if record.waits]
        return {run_id: place for place, (_, run_id) in enumerate(sorted(waiting), start=1)}

    def _longest_wait(self, place: int | None) -> float | None:
        """Seconds until the turn of a queued run at most, where a run has only so many."""
        return place * self.run_seconds if place and self.run_seconds else None

    # ---- what is kept outside the folders

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time, over all threads and processes; the system drops the lock of a process that is killed."""
        with open(self.records / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _all_records(self) -> Iterator[tuple[str, Record]]:
        for path in sorted(self.records.glob("*.json")):
            if (self.folder / path.stem).is_dir():
                yield path.stem, self._record(path.stem)

    def _record(self, run_id: str) -> Record:
        try:
            data = json.loads((self.records / f"{run_id}.json").read_text(encoding="utf-8"))
            record = Record(**{**data, "process": Process(**data["process"]) if data["process"] else None})
            numbers = (record.queued or 0, record.stop_asked or 0, record.events_from, record.memory)
            remote = record.remote and (record.remote["repo"], record.remote["state"], record.remote["error"])
            if all(isinstance(one, (int, float)) for one in numbers) and all(isinstance(one, str) for one in remote):
                return record
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return Record()  # none is kept, or it is damaged

    def _write_record(self, run_id: str, record: Record) -> None:
        _write_json(self.records / f"{run_id}.json", asdict(record))

    def _locations(self) -> dict:
        try:
            known = json.loads(self.locations_file.read_text(encoding="utf-8"))
            return {base: path for base, path in known.items() if isinstance(path, str)}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}  # none is kept, or it is damaged: the base is looked for by its name

    def _remember_location(self, config: dict, path: Path) -> None:
        _write_json(self.locations_file, {**self._locations(), _base_key(config): str(Path(path).resolve())})

    def _environment(self, config: dict) -> dict[str, str]:
        environment = {**os.environ, **LAUNCH_ENVIRONMENT}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        environment.pop("RLHFV_BASE_PATH", None)
        if self.run_seconds:
            environment["RLHFV_RUN_SECONDS"] = str(self.run_seconds)
        path = self.base_path(config)
        return {**environment, "RLHFV_BASE_PATH": str(path)} if path else environment

    def _events_size(self, run_id: str) -> int:
        path = RunFolder(self.folder / run_id).events_file
        return path.stat().st_size if path.exists() else 0


def build_command(kind: str, folder: Path, accelerate_config: Path | None = None) -> list[str]:
    """The command that does the work of a run: an evaluation in one process, training under accelerate: as the file
    `accelerate_config` says, else one process without a GPU, else as `accelerate config` says, else on as many GPUs as
    can share a batch evenly."""
    if kind == "evaluation":
        return [sys.executable, "-m", "rlhfv.evaluation.run", str(folder)]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    if accelerate_config:
        launch += ["--config_file", str(Path(accelerate_config).resolve())]
    elif sys.platform == "darwin":
        launch += ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    elif not has_gpu():
        launch += ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no"]
        if "OMP_NUM_THREADS" not in os.environ:
            launch += ["--num_cpu_threads_per_process", str(len(os.sched_getaffinity(0)))]
    elif (gpus := count_gpus()) > 1 and not is_accelerate_configured():
        from rlhfv.ddpo.config import TrainingConfig

        batch = TrainingConfig.from_dict(RunFolder(folder).read_config()["training"]).batch_size
        count = max(number for number in range(1, gpus + 1) if batch % number == 0)
        launch += ["--num_processes", str(count), "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no", *(["--multi_gpu", "--main_process_port", "0"] if count > 1 else [])]
    return [*launch, "-m", "rlhfv.ddpo.train", str(folder)]


def _free_memory() -> int:
    """Bytes free where a run would train. Asks torch, and only for a run that waits for memory."""
    from rlhfv.models.catalog import available_memory, choose_device

    return available_memory(choose_device())


def _new_id() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _base_key(config: dict) -> str:
    base = config.get("base", {})
    return f"{base.get('name')}@{base.get('revision')}"


def _versions() -> dict[str, str]:
    versions = {"rlhfv": rlhfv.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _write_json(path: Path, data: dict) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


_ROOT = Path(rlhfv.__file__).resolve().parents[1]
