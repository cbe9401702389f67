"""Debian's PostgreSQL for tests: a cluster of its own in a temporary folder, on a Unix socket alone, run by a user who is not root.

    server = Postgres(folder)          # None of it stays: user, processes, files
    server.sql("CREATE ...")
    server.close()
"""
import glob
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time

from harness import note


def programs():
    """The folder of the newest server that is installed, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: int(re.sub(r"\D", "", path.split("/")[4])))
    return os.path.dirname(found[-1]) if found else None


class Unable(Exception):
    """The server's programs do not run here as a user who is not root."""


class Postgres:
    def __init__(self, folder):
        self.bin = programs()
        self.user = None
        self.password = secrets.token_hex(16)
        self.dir = os.path.join(folder, "postgres")
        self.passfile = os.path.join(folder, "pgpass")
        self.process = None
        if os.getuid() == 0:
            self.user = f"concordat-pg-{os.getpid()}"  # initdb and postgres refuse root
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", self.user], check=True, capture_output=True)
            os.chmod(folder, 0o711)
        os.mkdir(self.dir, 0o700)
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(self.dir, entry.pw_uid, entry.pw_gid)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def as_user(self, *command):
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *command] if self.user else list(command)

    def start(self):
        secret = os.path.join(self.dir, "secret")
        with open(secret, "w", encoding="ascii") as file:
            file.write(self.password + "\n")
        if self.user:
            os.chown(secret, pwd.getpwnam(self.user).pw_uid, -1)
        with open(self.passfile, "w", encoding="ascii") as file:
            file.write(f"*:*:*:omop:{self.password}\n")
        os.chmod(self.passfile, 0o600)
        data = os.path.join(self.dir, "data")
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        tried = subprocess.run(self.as_user(os.path.join(self.bin, "initdb"), "--version"), cwd="/", env=env, capture_output=True, text=True, timeout=60, check=False)
        if tried.returncode:
            raise Unable(tried.stderr.strip())
        made = subprocess.run(self.as_user(os.path.join(self.bin, "initdb"), "-D", data, "-U", "omop", "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8",
                                           "--no-sync"), cwd="/", env=env, capture_output=True, text=True, timeout=120, check=False)
        if made.returncode:
            raise RuntimeError(made.stderr)
        self.log = open(os.path.join(os.path.dirname(self.dir), "postgres.log"), "wb")
        self.process = subprocess.Popen(self.as_user(os.path.join(self.bin, "postgres"), "-D", data, "-k", self.dir, "-c", "listen_addresses=", "-c", "fsync=off",
                                                     "-c", "shared_buffers=16MB"), cwd="/", env=env, stdout=self.log, stderr=self.log)
        # the socket lies in a folder of mode 0700; the test, when it is root, may enter
        for _ in range(300):
            if self.try_sql("SELECT 1")[0] == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        with open(self.log.name, encoding="utf-8", errors="replace") as file:
            note(file.read()[-2000:])
        raise RuntimeError("PostgreSQL did not start")

    def connection(self, **more):
        words = {"host": self.dir, "user": "omop", "dbname": "postgres", "passfile": self.passfile, **more}
        return " ".join(f"{key}={value}" for key, value in words.items())

    def try_sql(self, sql):
        done = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.connection(), "-f", "-"], input=sql, capture_output=True, text=True, timeout=120,
                              check=False)
        return done.returncode, done.stderr

    def sql(self, sql):
        code, error = self.try_sql(sql)
        if code:
            raise RuntimeError(error)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # the fast shutdown, which waits for no client
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.user:
            subprocess.run(["userdel", self.user], check=False, capture_output=True)
            self.user = None
