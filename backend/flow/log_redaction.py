"""What httpx logs of its own: whole addresses. Links to results are signed, and a query may hold a key."""

import logging

from backend.validation.printable import shown


def _without_query(record: logging.LogRecord) -> bool:
    """Shorten the addresses of a record to what may be shown.

    Source: httpx 0.28, ``logger.info('HTTP Request: %s %s "…"', method, url, …)``.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(shown(str(value)) if "://" in str(value) else value for value in record.args)
    return True


def keep_secrets() -> None:
    """Keep queries out of httpx's log, for as long as this program runs; doing it again changes nothing."""
    logging.getLogger("httpx").addFilter(_without_query)
