"""Whether Megatron-Energon reads every member of our shards as it is."""

import hashlib
import json
import subprocess

from benchmarks.stream.contenders import CONTENDERS
from benchmarks.stream.rounds import ROOT, Folders, LoaderError, command, data_folder
from manifests.tar import read_tar


def check_energon(folders: Folders) -> int:
    """Compare SHA-256 of all members, read by Energon after its own prepare step, with ours.

    Returns:
        How many members are the same: all.

    Raises:
        LoaderError: If one differs, is missing, or Energon fails.
        BuildError: If its environment cannot be built.
    """
    energon = CONTENDERS["energon"]
    words = command(energon, folders, "digests", str(data_folder(energon, folders)))
    with folders.log.open("a") as log:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 (ours)
    if done.returncode:
        raise LoaderError(f"Energon failed; see {folders.log}")
    theirs, ours = json.loads(done.stdout.splitlines()[-1]), _digests(folders)
    if theirs != ours:
        different = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise LoaderError(f"Energon reads {len(different)} members otherwise, first {different[0]}")
    return len(ours)


def _digests(folders: Folders) -> dict[str, str]:
    found: dict[str, str] = {}
    for unit in folders.layout.committed():
        with folders.layout.tar(unit).open("rb") as tar:
            for member in read_tar(tar):
                found[f"{member.key}.{member.name}"] = hashlib.sha256(member.data).hexdigest()
    return found
