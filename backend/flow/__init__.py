"""I/O as data: the steps that flows yield, and the drivers that carry them out.

``from backend.flow import …`` is the public path of the steps; plugins use it.
"""

from backend.flow.retry import RETRY, Retry
from backend.flow.steps import (
    Download,
    Downloaded,
    Flow,
    Form,
    FormFile,
    Progress,
    Reply,
    Send,
    Sleep,
    Step,
    T,
    Upload,
    Work,
    ask,
    check,
    download,
    persist,
    send,
    with_query,
    work,
)

__all__ = [
    "RETRY",
    "Download",
    "Downloaded",
    "Flow",
    "Form",
    "FormFile",
    "Progress",
    "Reply",
    "Retry",
    "Send",
    "Sleep",
    "Step",
    "T",
    "Upload",
    "Work",
    "ask",
    "check",
    "download",
    "persist",
    "send",
    "with_query",
    "work",
]
