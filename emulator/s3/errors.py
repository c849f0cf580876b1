"""How the S3 plane says no, and how it writes XML."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from xml.sax.saxutils import escape

from starlette.responses import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

Node = tuple[str, "str | int | bool | list[Node]"]
"""An XML element: its name, and its text or its children."""


class S3Error(Exception):
    """A refusal with S3's code for it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self, resource: str, *, with_body: bool) -> Response:
        """Render it; answers to HEAD have no body."""
        request_id = uuid.uuid4().hex[:16].upper()
        fields: list[Node] = [
            ("Code", self.code),
            ("Message", str(self)),
            ("Resource", resource),
            ("RequestId", request_id),
        ]
        body = document("Error", fields, namespace=None) if with_body else b""
        headers = {"x-amz-request-id": request_id}
        return Response(body, self.status, headers, media_type="application/xml")


def no_such_bucket(bucket: str) -> S3Error:
    """There is no volume of that id, or its data center has no S3."""
    return S3Error(404, "NoSuchBucket", f"The specified bucket does not exist: {bucket}")


def no_such_key(key: str) -> S3Error:
    """There is no file under that key."""
    return S3Error(404, "NoSuchKey", f"The specified key does not exist: {key}")


def no_such_upload(upload_id: str) -> S3Error:
    """There is no multipart upload of that id, or not any more."""
    return S3Error(404, "NoSuchUpload", f"The specified upload does not exist: {upload_id}")


def not_implemented(operation: str) -> S3Error:
    """RunPod's S3 has no such operation."""
    return S3Error(501, "NotImplemented", f"{operation} is not implemented by RunPod's S3-compatible API")


def document(root: str, children: Iterable[Node], namespace: str | None = NAMESPACE) -> bytes:
    """Write an XML document."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    inner = "".join(_element(child) for child in children)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{attribute}>{inner}</{root}>'.encode()


def _element(node: Node) -> str:
    name, value = node
    if isinstance(value, list):
        text = "".join(_element(child) for child in value)
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = escape(str(value))
    return f"<{name}>{text}</{name}>"
