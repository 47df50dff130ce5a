"""Base images made on this machine, under the names that the stack's files use, where no registry can be asked.

Python's is Debian 13 with Debian's Python 3.13, laid out as the official image lays it out. The servers' hold this
machine's own programs, with the libraries that they need and nothing else, so versions may differ from those named.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from celeryscope_demo.broker import packaged_server
from support.engine import Engine, run

MIRROR = "http://deb.debian.org/debian"
SUITE, VERSION = "trixie", "3.13"
NOBODY = 65534
PASSWD = "root:x:0:0::/:/sbin/nologin\nvalkey:x:999:1000::/:/sbin/nologin\nnobody:x:65534:65534::/:/sbin/nologin\n"


def python_image(engine: Engine, name: str, folder: Path) -> None:
    """Debian with Python, pip and certificates."""
    packages = f"python3,python3-venv,python3-pip,ca-certificates,tzdata,python{VERSION}"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(folder), MIRROR]
    run(["nice", "-n", "19", *command], dict(os.environ))
    # The official image has its Python below /usr/local, and a pip that may install.
    local = folder / "usr/local"
    shutil.copy2(folder / f"usr/bin/python{VERSION}", local / "bin")
    for link in ("python3", "python"):
        (local / "bin" / link).symlink_to(f"python{VERSION}")
    shutil.rmtree(local / f"lib/python{VERSION}", ignore_errors=True)
    (local / f"lib/python{VERSION}").symlink_to(f"../../lib/python{VERSION}")
    (folder / f"usr/lib/python{VERSION}/pip").symlink_to("../python3/dist-packages/pip")
    (folder / f"usr/lib/python{VERSION}/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    shutil.rmtree(folder / "var/cache/apt/archives")
    engine.load(folder, name, f"ENV PATH=/usr/local/bin:{os.defpath}")
    shutil.rmtree(folder)


def valkey_image(engine: Engine, name: str, folder: Path) -> None:
    """The embedded Valkey, with Redis' client for Valkey's."""
    server, client = packaged_server(), shutil.which("redis-cli")
    assert server is not None
    assert client is not None
    fill(
        folder,
        {"usr/local/bin/valkey-server": server, "usr/local/bin/valkey-cli": client},
        data="data",
        owner=(999, 1000),
    )
    engine.load(folder, name, "WORKDIR /data", "VOLUME /data", "ENV PATH=/usr/local/bin")
    shutil.rmtree(folder)


def prometheus_image(engine: Engine, name: str, folder: Path) -> None:
    """Debian's Prometheus."""
    server_image(engine, name, folder, "prometheus", "prometheus")


def alertmanager_image(engine: Engine, name: str, folder: Path) -> None:
    """Debian's Alertmanager."""
    server_image(engine, name, folder, "alertmanager", "prometheus-alertmanager")


def server_image(engine: Engine, name: str, folder: Path, called: str, program: str) -> None:
    """A server as its project ships it: /bin/NAME under the user nobody, data in /NAME, wget for health checks."""
    programs = {f"bin/{called}": shutil.which(program) or program, "bin/wget": shutil.which("wget") or "wget"}
    fill(folder, programs, data=called, owner=(NOBODY, NOBODY))
    # Debian keeps beside its programs what their projects build into them: templates and pages.
    shutil.copytree("/usr/share/prometheus", folder / "usr/share/prometheus")
    engine.load(
        folder,
        name,
        f'ENTRYPOINT ["/bin/{called}"]',
        "USER nobody",
        f"WORKDIR /{called}",
        f"VOLUME /{called}",
        "ENV PATH=/bin",
    )
    shutil.rmtree(folder)


def fill(folder: Path, programs: Mapping[str, str], data: str, owner: tuple[int, int]) -> None:
    """Lay out programs with the libraries that they are linked with, and a folder for their data."""
    for directory in ("etc", "tmp", "proc", "sys", "dev", data):
        (folder / directory).mkdir(parents=True, exist_ok=True)
    (folder / "etc/passwd").write_text(PASSWD)
    os.chown(folder / data, *owner)
    for target, source in programs.items():
        place(Path(source), folder / target)
        for library in libraries(source):
            place(Path(library), folder / library.lstrip("/"))


def place(source: Path, target: Path) -> None:
    """Copy a file, whatever links lead to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(source.resolve(), target)


def libraries(program: str) -> list[str]:
    """The libraries of a program and its loader; none for one that is linked statically."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", done.stdout)
