"""Billing history: what the ledger's seconds cost, in the buckets that are asked for.

Source: REST v2 openapi, the billing routes; prices of `emulator.catalog`. Public endpoints, pods and clusters
are not emulated, so they cost nothing here. A worker is billed from its start to its stop (knob `bill_idle`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from emulator import catalog
from emulator.document import Document
from emulator.rest.billing_window import Window, window
from emulator.rest.call import Answer, Call
from emulator.rest.endpoints import timestamp
from emulator.state import State
from emulator.usage import Run, Span, Storage

HOURS_PER_MONTH = 730
DISK_USD_PER_GB_MONTH = 0.10
Amounts = dict[str, float]

_SERVERLESS = ("gpuAmount", "cpuAmount", "diskAmount", "feeAmount")
_VOLUME = ("standardAmount", "highPerformanceAmount")
_POD = ("gpuAmount", "cpuAmount", "diskAmount")
_CLUSTER = ("gpuAmount", "diskAmount", "networkingAmount")
_ALL = (
    "podGpuAmount",
    "podCpuAmount",
    "podDiskAmount",
    "serverlessGpuAmount",
    "serverlessCpuAmount",
    "serverlessDiskAmount",
    "serverlessFeeAmount",
    "storageStandardAmount",
    "storageHighPerformanceAmount",
    "endpointAmount",
    "clusterGpuAmount",
    "clusterDiskAmount",
    "clusterNetworkingAmount",
)


def serverless(state: State, call: Call) -> Answer:
    """Bill endpoints, one record for each endpoint and bucket."""
    requested = window(call, state.clock.now())
    required = call.query.get("serverlessId")
    ids = {run.endpoint_id for run in state.ledger.runs if _overlaps(state, run, requested)}

    def price(name: str, begin: datetime, end: datetime) -> Amounts:
        return _serverless(state, (run for run in state.ledger.runs if run.endpoint_id == name), begin, end)

    return _each(requested, "serverlessId", required, ids, _SERVERLESS, "uniqueServerlessCount", price)


def network_volumes(state: State, call: Call) -> Answer:
    """Bill volumes, one record for each volume and bucket."""
    requested = window(call, state.clock.now())
    required = call.query.get("networkVolumeId")
    ids = {storage.volume_id for storage in state.ledger.storage if _overlaps(state, storage, requested)}

    def price(name: str, begin: datetime, end: datetime) -> Amounts:
        remaining = (storage for storage in state.ledger.storage if storage.volume_id == name)
        return _storage(state, remaining, begin, end)

    return _each(requested, "networkVolumeId", required, ids, _VOLUME, "uniqueNetworkVolumeCount", price)


def pods(state: State, call: Call) -> Answer:
    """Return an empty bill: the emulator has no pods."""
    requested = window(call, state.clock.now())
    return _each(requested, "podId", call.query.get("podId"), (), _POD, "uniquePodCount", _nothing)


def clusters(state: State, call: Call) -> Answer:
    """Return an empty bill: the emulator has no clusters."""
    requested = window(call, state.clock.now())
    return _each(
        requested, "clusterId", call.query.get("clusterId"), (), _CLUSTER, "uniqueClusterCount", _nothing
    )


def public_endpoints(state: State, call: Call) -> Answer:
    """Bill RunPod's public endpoints, which cost nothing here: one record for each bucket."""
    requested = window(call, state.clock.now())
    records = [_record(begin, end, {}, ()) for begin, end in requested.buckets()]
    return 200, _answer(requested, {}, records, (), {})


def everything(state: State, call: Call) -> Answer:
    """Bill the whole account, one record for each bucket."""
    requested = window(call, state.clock.now())
    records = []
    for begin, end in requested.buckets():
        work = _serverless(state, state.ledger.runs, begin, end)
        remaining = _storage(state, state.ledger.storage, begin, end)
        amounts = {f"serverless{name[0].upper()}{name[1:]}": usd for name, usd in work.items()}
        amounts |= {f"storage{name[0].upper()}{name[1:]}": usd for name, usd in remaining.items()}
        records.append(_record(begin, end, amounts, _ALL))
    return 200, _answer(requested, {}, records, _ALL, {})


def _each(
    asked: Window,
    id_name: str,
    wanted: str | None,
    ids: Iterable[str],
    parts: tuple[str, ...],
    counted: str,
    price: Callable[[str, datetime, datetime], Amounts],
) -> Answer:
    """Build the answer of a route that bills by resource."""
    known = sorted(name for name in ids if wanted in (None, name))
    records = [
        {**_record(begin, end, price(name, begin, end), parts), id_name: name}
        for begin, end in asked.buckets()
        for name in known
    ]
    filters = {} if wanted is None else {id_name: wanted}
    return 200, _answer(asked, filters, records, parts, {counted: len(known)})


def _answer(
    asked: Window, filters: Document, records: list[Document], parts: tuple[str, ...], more: Document
) -> Document:
    query = {**_span(asked.start, asked.end), "bucketSize": asked.size, **filters}
    totals = {name: _usd(sum(record[name] for record in records)) for name in ("totalAmount", *parts)}
    metadata = {"query": query, "recordCount": len(records), **more, "totals": totals}
    return {"records": records, "metadata": metadata}


def _record(begin: datetime, end: datetime, amounts: Amounts, parts: tuple[str, ...]) -> Document:
    shown = {name: _usd(amounts.get(name, 0.0)) for name in parts}
    return {**_span(begin, end), "totalAmount": _usd(sum(shown.values())), **shown}


def _span(begin: datetime, end: datetime) -> Document:
    return {"startTime": timestamp(begin.timestamp()), "endTime": timestamp(end.timestamp())}


def _usd(amount: float) -> float:
    return round(amount, 9)


def _nothing(_: str, __: datetime, ___: datetime) -> Amounts:
    return {}


def _serverless(state: State, runs: Iterable[Run], begin: datetime, end: datetime) -> Amounts:
    """Price workers' seconds within a bucket."""
    gpu = cpu = disk = 0.0
    for run in runs:
        billed = _spans(state, run) if state.limits.bill_idle else _executed(state, run)
        seconds = sum(_overlap(span, begin, end) for span in billed)
        gpu += seconds * _gpu_usd_per_s(run)
        cpu += seconds * _cpu_usd_per_s(run)
        disk += seconds * run.disk_gb * DISK_USD_PER_GB_MONTH / HOURS_PER_MONTH / 3600
    return {"gpuAmount": gpu, "cpuAmount": cpu, "diskAmount": disk}


def _storage(state: State, kept: Iterable[Storage], begin: datetime, end: datetime) -> Amounts:
    """Price volumes within a bucket."""
    amounts = dict.fromkeys(_VOLUME, 0.0)
    for storage in kept:
        hours = sum(_overlap(span, begin, end) for span in _spans(state, storage)) / 3600
        if storage.tier == "STANDARD":
            monthly = catalog.standard_usd_per_month(storage.size_gb)
            amounts["standardAmount"] += hours * monthly / HOURS_PER_MONTH
        else:
            monthly = storage.size_gb * state.limits.high_performance_usd_per_gb_month
            amounts["highPerformanceAmount"] += hours * monthly / HOURS_PER_MONTH
    return amounts


def _gpu_usd_per_s(run: Run) -> float:
    prices = {gpu.id: gpu.serverless_usd_per_s for gpu in catalog.GPUS}
    return run.gpus * prices.get(run.gpu_type or "", 0.0)


def _cpu_usd_per_s(run: Run) -> float:
    flavor = catalog.cpu(run.cpu or "")
    return 0.0 if flavor is None else run.vcpus * flavor.serverless_usd_per_h / 3600


def _spans(state: State, used: Run | Storage) -> Iterator[Span]:
    """Yield the span that billing knows of: its newest part may not have arrived yet."""
    known = state.clock.now() - state.limits.billing_lag_s
    end = min(known, used.ended_at if used.ended_at is not None else known)
    if end > used.started_at:
        yield used.started_at, end


def _executed(state: State, run: Run) -> Iterator[Span]:
    for _, last in _spans(state, run):
        yield from ((begin, min(end, last)) for begin, end in run.executed() if begin < last)


def _overlaps(state: State, used: Run | Storage, asked: Window) -> bool:
    return any(_overlap(span, asked.start, asked.end) for span in _spans(state, used))


def _overlap(span: Span, begin: datetime, end: datetime) -> float:
    """Seconds of a span within a bucket."""
    return max(0.0, min(span[1], end.timestamp()) - max(span[0], begin.timestamp()))
