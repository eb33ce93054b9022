"""The servers of the cases: real ones, with the settings of a case."""

import os
import shutil
import subprocess
from pathlib import Path

from service import FUNCTIONS
from stage import PYTHON, SERVER_ADDRESS, Stage

NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

Server = subprocess.Popen[bytes]


def start_redis(stage: Stage, folder: Path, **settings: object) -> Server:
    """A Redis server; `settings` are those of redis.conf, with `_` for `-`."""
    fixed = {"bind": "0.0.0.0", "protected_mode": "no", "save": "", **settings}
    options = [word for key, value in fixed.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return stage.serve(["redis-server", "--dir", str(folder), *options], folder / "redis.log", "Ready to accept")


def start_node(stage: Stage, folder: Path, script: str, **environment: str) -> Server:
    """A server of `functions/` in Node.js, for instance gRPC's; it prints `ready`."""
    return stage.serve(["node", str(FUNCTIONS / script)], folder / f"{script}.log", "ready", **environment)


def start_python(stage: Stage, folder: Path, script: str, **environment: str) -> Server:
    """A server of `functions/` in Python, for instance C-core's of gRPC; it prints `ready`."""
    command = [str(PYTHON), "-u", str(FUNCTIONS / script)]
    return stage.serve(command, folder / f"{script}.log", "ready", **environment)


def start_go(stage: Stage, folder: Path, program: str) -> Server:
    """A program of `functions/` as a server; it prints `ready`."""
    return stage.serve([str(FUNCTIONS / program), "serve"], folder / f"{program}.log", "ready")


def start_nginx(stage: Stage, folder: Path, server: str) -> Server:
    """One process of nginx, with the directives of a `server` block."""
    file = folder / "nginx.conf"
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in NGINX_TEMPORARY)
    file.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr notice;\n"
        f"events {{ worker_connections 64; }}\n"
        f"http {{ access_log off; {temporary} server {{ {server} }} }}\n"
    )
    return stage.serve(["nginx", "-c", str(file), "-e", "stderr"], folder / "nginx.log", "OS: Linux")


def start_postgres(stage: Stage, folder: Path, **settings: object) -> Server:
    """A PostgreSQL server with a user `app`, trusted from everywhere."""
    binaries = next(path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    data = folder / "postgres"
    for path in (folder, data):  # PostgreSQL refuses to run as root
        path.mkdir(exist_ok=True)
    folder.chmod(0o755)
    shutil.chown(data, "postgres", "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    initdb = [*as_postgres, str(binaries / "initdb"), "-D", str(data), "-U", "app", "--auth=trust", "-E", "UTF8"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    with (data / "pg_hba.conf").open("a") as access:
        access.write("host all all 0.0.0.0/0 trust\n")
    fixed = {"listen_addresses": "*", "unix_socket_directories": "", "fsync": "off", **settings}
    options = [word for key, value in fixed.items() for word in ("-c", f"{key}={value}")]
    command = [*as_postgres, str(binaries / "postgres"), "-D", str(data), *options]
    return stage.serve(command, folder / "postgres.log", "ready to accept connections")


def start_mariadb(stage: Stage, folder: Path, **settings: object) -> Server:
    """A MariaDB server with a user `app` that needs no password; `settings` are those of my.cnf."""
    data = folder / "mariadb"
    data.mkdir()
    folder.chmod(0o755)
    shutil.chown(data, "mysql", "mysql")
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=mysql", "--skip-test-db"]
    subprocess.run(install, check=True, capture_output=True)
    grants = folder / "grants.sql"
    grants.write_text("CREATE DATABASE shop;\nCREATE USER app@'%';\nGRANT ALL ON shop.* TO app@'%';\n")
    grants.chmod(0o644)
    options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    fixed = ["--user=mysql", f"--datadir={data}", f"--socket={data}/socket", "--bind-address=0.0.0.0"]
    command = ["mariadbd", "--no-defaults", *fixed, f"--init-file={grants}", "--skip-name-resolve", *options]
    return stage.serve(command, folder / "mariadb.log", "ready for connections")


def start_name_server(stage: Stage, folder: Path, **names: str) -> Server:
    """dnsmasq; knows the server as `NAME.orders.internal` for every name, and no other names."""
    addresses = [f"--host-record={name}.orders.internal,{address}" for name, address in names.items()]
    fixed = [
        "--keep-in-foreground",
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--local=/internal/",
        "--conf-file=/dev/null",
    ]
    listen = [f"--listen-address={SERVER_ADDRESS}", "--bind-interfaces", f"--user={os.environ.get('USER', 'root')}"]
    return stage.serve(["dnsmasq", *fixed, *listen, *addresses], folder / "dnsmasq.log", "started")
