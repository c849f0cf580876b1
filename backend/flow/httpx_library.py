"""httpx, imported without its command-line program.

httpx imports that program into every process where click, pygments and rich are installed, and ours need
rich. The program is three quarters of httpx's import time, and no library uses it. httpx goes on without it
where it cannot be imported.
"""

import sys
from typing import Any, Final

__all__ = ["httpx"]

_PROGRAM: Final = "httpx._main"
_modules: dict[str, Any] = sys.modules
_is_first = "httpx" not in _modules

if _is_first:
    _modules[_PROGRAM] = None  # the import system's way to say that a module cannot be imported
try:
    import httpx
finally:
    if _is_first:
        del _modules[_PROGRAM]
