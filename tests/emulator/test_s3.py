"""RunPod's S3 on loopback: boto3, unmodified, against it; and what RunPod's API refuses."""

import base64
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.support.emulation import Emulator

MB = 1 << 20
WITHOUT_S3 = "EUR-IS-3"


def client_of(emu: Emulator, *, secret: str | None = None, region: str = "EU-RO-1", **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=emu.url("s3"),
        region_name=region,
        aws_access_key_id=emu.env["RUNPOD_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=secret or emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 0}, **config),
    )


@pytest.fixture
def s3(emu: Emulator) -> Iterator[Any]:
    """Yield boto3's client in its default settings."""
    client = client_of(emu)
    yield client
    client.close()


@pytest.fixture
def bucket(emu: Emulator) -> str:
    reply = emu.rest("POST", "/network-volumes", {"name": "models", "size": 10, "dataCenter": "EU-RO-1"})
    assert reply.status_code == 201, reply.text
    volume_id: str = reply.json()["id"]
    return volume_id


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("signing", [True, False])
def test_an_object_is_a_file_on_the_volume(emu, bucket, checksums, signing):
    """What is put is on disk under its key, and comes back whole and in parts, whatever boto3 adds to it."""
    s3 = client_of(emu, request_checksum_calculation=checksums, s3={"payload_signing_enabled": signing})
    body = random.Random(1).randbytes(100_000)
    put = s3.put_object(Bucket=bucket, Key="models/checkpoints/ä #1+ %.bin", Body=body)
    got = s3.get_object(Bucket=bucket, Key="models/checkpoints/ä #1+ %.bin")
    part = s3.get_object(Bucket=bucket, Key="models/checkpoints/ä #1+ %.bin", Range="bytes=10-19")
    head = s3.head_object(Bucket=bucket, Key="models/checkpoints/ä #1+ %.bin")

    assert (emu.volume_dir(bucket) / "models/checkpoints/ä #1+ %.bin").read_bytes() == body
    assert got["Body"].read() == body
    assert (part["Body"].read(), part["ContentRange"]) == (body[10:20], "bytes 10-19/100000")
    assert (head["ContentLength"], head["ETag"]) == (100_000, put["ETag"])
    s3.close()


def test_a_file_that_a_worker_wrote_is_an_object(emu, s3, bucket):
    """The worker and S3 see one directory; the ETag of such a file is its MD5."""
    (emu.volume_dir(bucket) / "outputs").mkdir()
    (emu.volume_dir(bucket) / "outputs/a.txt").write_bytes(b"hello")

    head = s3.head_object(Bucket=bucket, Key="outputs/a.txt")

    assert (head["ContentLength"], head["ETag"]) == (5, '"5d41402abc4b2a76b9719d911017c592"')


@pytest.mark.slow
def test_the_transfer_manager_moves_large_files_in_parts(emu, s3, bucket, tmp_path):
    """upload_file and download_file, which work in parts and threads, bring the same bytes back."""
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(random.Random(2).randbytes(20 * MB + 123))
    config = TransferConfig(multipart_threshold=8 * MB, multipart_chunksize=5 * MB, max_concurrency=4)
    s3.upload_file(str(source), bucket, "models/big.bin", Config=config)
    s3.download_file(bucket, "models/big.bin", str(back), Config=config)

    assert back.read_bytes() == source.read_bytes()
    assert s3.head_object(Bucket=bucket, Key="models/big.bin")["ETag"].endswith('-5"')
    assert sorted((emu.volume_dir(bucket) / ".s3compat_uploads").iterdir()) == []


def test_parts_wait_on_the_volume_until_they_are_complete_or_aborted(emu, s3, bucket):
    """Parts lie in a hidden folder, are listed, may be small and come in any order; abort removes them."""
    one = s3.create_multipart_upload(Bucket=bucket, Key="a/b.bin")["UploadId"]
    two = s3.create_multipart_upload(Bucket=bucket, Key="a/c.bin")["UploadId"]
    etags = {
        number: s3.upload_part(Bucket=bucket, Key="a/b.bin", UploadId=one, PartNumber=number, Body=body)[
            "ETag"
        ]
        for number, body in ((2, b"world"), (1, b"hello "))
    }
    uploads = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    parts = s3.list_parts(Bucket=bucket, Key="a/b.bin", UploadId=one)["Parts"]
    before = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="a/b.bin",
        UploadId=one,
        MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2)]},
    )
    s3.abort_multipart_upload(Bucket=bucket, Key="a/c.bin", UploadId=two)

    assert [upload["Key"] for upload in uploads] == ["a/b.bin", "a/c.bin"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 6), (2, 5)]
    assert before == 0
    assert s3.get_object(Bucket=bucket, Key="a/b.bin")["Body"].read() == b"hello world"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError) as gone:
        s3.list_parts(Bucket=bucket, Key="a/c.bin", UploadId=two)
    assert code_of(gone) == (404, "NoSuchUpload")


def test_a_part_that_is_not_there_fails_the_completion(s3, bucket):
    """Complete names the missing part, and the parts stay for another try."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="x")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="x", UploadId=upload, PartNumber=1, Body=b"1")
    parts = [{"PartNumber": 7, "ETag": '"0cc175b9c0f1b6a831c399e269772661"'}]

    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(
            Bucket=bucket, Key="x", UploadId=upload, MultipartUpload={"Parts": parts}
        )

    assert code_of(error) == (400, "InvalidPart")
    assert len(s3.list_parts(Bucket=bucket, Key="x", UploadId=upload)["Parts"]) == 1


def test_listings_have_pages_folders_and_empty_directories(emu, s3, bucket):
    """Keys come sorted by UTF-8, in pages, grouped by the delimiter; an empty directory ends in a slash."""
    root = emu.volume_dir(bucket)
    names = ["models/b.bin", "models/a b+c.bin", "models/loras/x.bin", "models/ä.bin", "z.txt"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "models/vae").mkdir()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    everything = [one["Key"] for page in pages for one in page["Contents"]]
    old = [
        one["Key"]
        for page in s3.get_paginator("list_objects").paginate(Bucket=bucket)
        for one in page["Contents"]
    ]
    top = s3.list_objects_v2(Bucket=bucket, Prefix="models/", Delimiter="/")

    assert everything == sorted([*names, "models/vae/"], key=str.encode)
    assert old == everything
    assert [one["Key"] for one in top["Contents"]] == ["models/a b+c.bin", "models/b.bin", "models/ä.bin"]
    assert [one["Prefix"] for one in top["CommonPrefixes"]] == ["models/loras/", "models/vae/"]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="nothing/")["KeyCount"] == 0
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="models/ä.bin")["Contents"][0]["Key"] == "z.txt"


def test_a_repeated_continuation_token_can_be_had(emu, s3, bucket):
    """RunPod has been seen to give the same token twice; botocore then refuses to go on."""
    for name in "abc":
        (emu.volume_dir(bucket) / name).write_bytes(b"x")
    emu.set(s3_repeat_token=True)

    with pytest.raises(Exception, match="The same next token was received twice"):
        list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}))


def test_objects_are_copied_and_deleted_one_by_one(emu, s3, bucket):
    """Copy works inside a volume; deleting what is not there is no failure; the folder stays, empty."""
    s3.put_object(Bucket=bucket, Key="a/one", Body=b"1")
    s3.copy_object(Bucket=bucket, Key="b/two", CopySource={"Bucket": bucket, "Key": "a/one"})
    s3.delete_object(Bucket=bucket, Key="a/one")
    s3.delete_object(Bucket=bucket, Key="a/one")

    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["a/", "b/two"]
    assert (emu.volume_dir(bucket) / "b/two").read_bytes() == b"1"


def test_buckets_are_the_volumes_of_data_centers_with_s3(emu, s3, bucket):
    """ListBuckets and HeadBucket know volumes by id, but not those where RunPod has no S3 endpoint."""
    far = emu.rest("POST", "/network-volumes", {"name": "far", "size": 10, "dataCenter": WITHOUT_S3})

    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [bucket]
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket=far.json()["id"])
    assert code_of(error) == (404, "404")


REFUSED: dict[str, Callable[[Any, str], Any]] = {
    "DeleteObjects": lambda s3, b: s3.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "a"}]}),
    "CreateBucket": lambda s3, _: s3.create_bucket(
        Bucket="new-bucket", CreateBucketConfiguration={"LocationConstraint": "EU-RO-1"}
    ),
    "DeleteBucket": lambda s3, b: s3.delete_bucket(Bucket=b),
    "GetBucketLocation": lambda s3, b: s3.get_bucket_location(Bucket=b),
    "GetObjectTagging": lambda s3, b: s3.get_object_tagging(Bucket=b, Key="a"),
    "UploadPartCopy": lambda s3, b: s3.upload_part_copy(
        Bucket=b, Key="a", UploadId="x", PartNumber=1, CopySource={"Bucket": b, "Key": "c"}
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_runpod_lacks_is_refused_by_name(s3, bucket, name):
    """501 NotImplemented, with the operation in the message."""
    with pytest.raises(ClientError) as error:
        REFUSED[name](s3, bucket)

    assert code_of(error) == (501, "NotImplemented")
    assert name in str(error.value)


def test_presigned_urls_are_refused(s3, bucket):
    """RunPod has none."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})

    assert httpx.get(url).status_code == 501


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"secret": "rps_wrong"}, (403, "SignatureDoesNotMatch")),
        ({"region": "US-KS-2"}, (400, "AuthorizationHeaderMalformed")),
        ({"region": "eu-ro-1"}, None),
    ],
)
def test_signatures_are_checked(emu, bucket, settings, code):
    """A wrong secret or region is refused; the region counts in either case."""
    client = client_of(emu, **settings)
    if code is None:
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    else:
        with pytest.raises(ClientError) as error:
            client.list_objects_v2(Bucket=bucket)
        assert code_of(error) == code
    client.close()


@pytest.mark.parametrize("key", ["../x", "a/../../x", "a//b", "./a", ".s3compat_uploads/x", "/a"])
def test_keys_that_are_no_path_inside_the_volume_are_refused(s3, bucket, key):
    """Nothing outside the volume's folder can be read or written, nor the hidden uploads."""
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    assert code_of(error)[0] in (400, 403)


def test_a_link_out_of_the_volume_is_not_followed(emu, s3, bucket, tmp_path):
    """A symlink that a worker made does not open the host."""
    (tmp_path / "secret").write_text("secret")
    (emu.volume_dir(bucket) / "link").symlink_to(tmp_path)

    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="link/secret")

    assert code_of(error) == (403, "AccessDenied")


def test_a_file_and_a_directory_do_not_share_a_name(s3, bucket):
    """Keys are real paths, so `a` and `a/b` can not both be."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")

    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="a/b", Body=b"2")

    assert code_of(error) == (400, "InvalidArgument")
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_bodies_over_the_limit_are_refused(emu, s3, bucket):
    """PutObject and parts end at RunPod's limit, and nothing of the body stays."""
    emu.set(s3_part_bytes=1000)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="a", Body=b"x" * 1001)
    emu.set(s3_volume_bytes=500)
    with pytest.raises(ClientError) as full:
        s3.put_object(Bucket=bucket, Key="a", Body=b"x" * 501)

    assert code_of(error) == (413, "EntityTooLarge")
    assert code_of(full) == (507, "InsufficientStorage")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_cut_upload_leaves_the_old_object(emu, s3, bucket):
    """An object is replaced whole or not at all."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"old")
    emu.fault("/s3/*", method="PUT", cut="before")
    with pytest.raises(Exception, match=r"[Cc]onnection"):
        s3.put_object(Bucket=bucket, Key="a", Body=b"new")

    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"old"


def chunked(emu: Emulator, bucket: str, trailer: str) -> httpx.Response:
    """Put `hello world` as AWS's clients do over https: in chunks, with a checksum after them."""
    body = f"6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:{trailer}\r\n\r\n"
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": "11",
        "X-Amz-Trailer": "x-amz-checksum-crc32",
    }
    request = AWSRequest("PUT", f"{emu.url('s3')}/{bucket}/a", headers, body)
    request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    key, secret = emu.env["RUNPOD_S3_ACCESS_KEY_ID"], emu.env["RUNPOD_S3_SECRET_ACCESS_KEY"]
    S3SigV4Auth(Credentials(key, secret), "s3", "EU-RO-1").add_auth(request)
    assert request.headers["X-Amz-Content-SHA256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    return httpx.put(str(request.url), headers=dict(request.headers), content=body)


def test_chunked_bodies_are_unchunked_and_their_trailing_checksum_is_checked(emu, bucket):
    """The file holds the content without the chunks; a wrong trailer is refused and stores nothing."""
    crc32 = base64.b64encode(zlib.crc32(b"hello world").to_bytes(4, "big")).decode()

    wrong = chunked(emu, bucket, "AAAAAA==")
    assert (wrong.status_code, "BadDigest" in wrong.text) == (400, True)
    assert not (emu.volume_dir(bucket) / "a").exists()

    assert chunked(emu, bucket, crc32).status_code == 200
    assert (emu.volume_dir(bucket) / "a").read_bytes() == b"hello world"


def test_a_large_download_streams(emu, s3, bucket, tmp_path: Path):
    """A file that was written sparsely through the mount comes over S3 in ranges, from any place."""
    path = emu.volume_dir(bucket) / "big.bin"
    with path.open("wb") as file:
        file.truncate(64 * MB)
        file.seek(40 * MB)
        file.write(b"here")

    got = s3.get_object(Bucket=bucket, Key="big.bin", Range=f"bytes={40 * MB}-{40 * MB + 3}")

    assert got["Body"].read() == b"here"
