"""Processes that take turns on one machine, so that one that grows slower or faster meanwhile does so for all of them."""
import json
import signal
import subprocess
import tempfile

# About as long as a turn takes, and the steps of the turn that finds out how many steps that are.
SECONDS, TRIAL = 1.5, 2


class Died(Exception):
    """A side that ended before it was told to, in one line."""


class Side:
    """A process that measures when it is asked to. While it waits it is stopped, as the threads of some libraries spin."""

    def __init__(self, name, command, batch_size):
        self.name, self.batch_size, self.steps = name, batch_size, TRIAL
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        except OSError as error:
            raise Died(f"{name}: {error}") from None

    def __enter__(self):
        """Waits until the model is built and warm, and chooses the number of steps of a turn."""
        try:
            self.answer()
            self.steps = max(1, round(SECONDS * self.turn() / self.batch_size))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def turn(self):
        """Images per second of one turn."""
        self.signal("SIGCONT")
        try:
            self.process.stdin.write(f"{self.steps}\n")
            self.process.stdin.flush()
        except OSError:
            self.died()
        return self.answer()["images_per_second"]

    def end(self):
        """The peak memory in bytes."""
        self.signal("SIGCONT")
        self.process.stdin.close()
        return self.answer()["peak_memory_bytes"]

    def answer(self):
        """The next object that it prints."""
        for line in self.process.stdout:
            if line.startswith("{"):
                self.signal("SIGSTOP")
                return json.loads(line)
        self.died()

    def signal(self, name):
        # Not every system can stop a process; there it may spin.
        if hasattr(signal, name):
            self.process.send_signal(getattr(signal, name))

    def died(self):
        status = self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        how = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Died(f"{self.name}: {how}: {last}")


def alternate(sides, count):
    """What `count` turns of every side gave, each with who was first: `{"first": 0, "values": [4.1, 3.9]}`. The order is
    swapped from turn to turn. Also the peak memory of every side.
    """
    turns = []
    for number in range(count):
        order = range(len(sides)) if number % 2 == 0 else range(len(sides) - 1, -1, -1)
        values = {index: sides[index].turn() for index in order}
        turns.append({"first": order[0], "values": [values[index] for index in range(len(sides))]})
    return turns, [side.end() for side in sides]
