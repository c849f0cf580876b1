"""The signatures of RunPod's S3, checked without a server."""

import time

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emulator.s3.auth import verify
from emulator.s3.errors import S3Error


@pytest.mark.parametrize(("late_s", "code"), [(3500, None), (3700, "RequestTimeTooSkewed")])
def test_clocks_may_be_an_hour_off(late_s, code):
    """A signature is good for an hour around its time, and for nobody else's clock."""
    url = "http://127.0.0.1/s3/vol/a%20b?list-type=2&prefix=x%2Fy"
    request = AWSRequest("GET", url, {"Host": "127.0.0.1"})
    S3SigV4Auth(Credentials("user_x", "rps_x"), "s3", "EU-RO-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    path, query = "/s3/vol/a%20b", "list-type=2&prefix=x%2Fy"

    def check() -> str:
        now = time.time() + late_s
        return verify("GET", path, query, headers, access_key="user_x", secret_key="rps_x", now=now).region

    if code is None:
        assert check() == "EU-RO-1"
    else:
        with pytest.raises(S3Error) as error:
            check()
        assert error.value.code == code
