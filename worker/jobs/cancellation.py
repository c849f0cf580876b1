"""A job's stop sign: RunPod raises it when the job is cancelled, and whatever the job does looks at it."""

import threading


class Stopped(BaseException):
    """The job was cancelled, so its answer is no longer needed.

    Not an ``Exception``, so that nothing on its way takes it for a failure of its own and tries again.
    """


class StopSign:
    """Shared between the event loop that hears of a cancellation and the thread that works."""

    def __init__(self) -> None:
        self.raised = threading.Event()

    def check(self) -> None:
        """Go on, or stop.

        Raises:
            Stopped: the job was cancelled.
        """
        if self.raised.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait, unless the job is cancelled meanwhile.

        Raises:
            Stopped: it was.
        """
        if self.raised.wait(seconds):
            raise Stopped
