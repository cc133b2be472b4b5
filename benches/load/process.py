"""Processes that a run starts, and what the kernel knows of them. Only what was started here is ever ended."""
import os
import signal
import socket
import subprocess
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


class Process:
    """A server: its command, and the port that tells when it is there."""

    def __init__(self, command, port, ready="/", env=None, cwd=None, log=subprocess.DEVNULL):
        self.port = port
        if self._listening():
            raise RuntimeError(f"port {port} is in use")
        began = time.perf_counter()
        self.popen = subprocess.Popen(command, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait(ready)
        except BaseException:
            self.stop()
            raise
        self.ready_ms = (time.perf_counter() - began) * 1e3

    @property
    def pid(self):
        return self.popen.pid

    def _listening(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def _wait(self, path, patience=15):
        end = time.time() + patience
        while time.time() < end:
            if self.popen.poll() is not None:
                raise RuntimeError(f"{self.popen.args[0]} ended with {self.popen.returncode}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode())
                    if s.recv(64).split(b" ")[1:2] not in ([], [b"503"]):
                        return
            except OSError:
                pass
            time.sleep(0.001)
        raise RuntimeError(f"{self.popen.args[0]} was not ready in {patience} s")

    def stop(self):
        if self.popen.poll() is not None:
            return
        # SIGINT: at once, nothing is to be drained
        os.killpg(self.pid, signal.SIGINT)
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait(5)


class Peak(threading.Thread):
    """The most memory that a process tree has had since this began."""

    def __init__(self, pid, every):
        super().__init__(daemon=True)
        self.pid, self.every, self.ended, self.kib = pid, every, threading.Event(), 0

    def run(self):
        while not self.ended.is_set():
            self.kib = max(self.kib, memory_kib(self.pid))
            self.ended.wait(self.every)

    def stop(self):
        self.ended.set()
        self.join()
        return self.kib


def tree(pid):
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(entry)
            if stat:
                children.setdefault(int(stat[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def _stat(pid):
    """Fields of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            text = f.read()
        return text[text.rindex(")") + 2:].split()
    except OSError:
        return None


def cpu_s(pid):
    """User and system seconds of a process and its descendants."""
    stats = [s for s in map(_stat, tree(pid)) if s]
    return sum(int(s[11]) + int(s[12]) for s in stats) / TICK


def memory_kib(pid):
    """Proportional set size of a process and its descendants: pages they share count once."""
    total = 0
    for process in tree(pid):
        try:
            with open(f"/proc/{process}/smaps_rollup") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def machine_busy_s():
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq = map(int, f.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


def client(command, env=None):
    """Run a client to its end: its output and its CPU seconds."""
    popen = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output = popen.stdout.read()
    except BaseException:
        popen.kill()
        raise
    _, status, usage = os.wait4(popen.pid, 0)
    popen.returncode = os.waitstatus_to_exitcode(status)
    return output, usage.ru_utime + usage.ru_stime
