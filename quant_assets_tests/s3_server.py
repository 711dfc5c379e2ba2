"""A local S3 server for tests: moto, in a process of its own, one request at a time.

One at a time, because a conditional PUT of the real S3 is atomic, and moto looks and writes in two steps.
"""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

KEY, SECRET = "AKIATESTTESTTESTTEST", "test-secret-that-no-message-may-show"


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes
    ----------
    endpoint : str
        As in ``http://127.0.0.1:40123``.
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What s3fs and botocore read. One try each: a test of an unreachable store need not wait for four more."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> str:
        """The URL of a new, empty bucket."""
        import s3fs

        name = f"test-{uuid.uuid4().hex[:12]}"
        s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=self.endpoint).call_s3(
            "create_bucket", Bucket=name
        )
        return f"s3://{name}"


@contextmanager
def running_server() -> Iterator[S3Server]:
    """A server on a free port, stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        yield S3Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        # Not terminate(): a process started while Dagster ignores SIGTERM ignores it too. It keeps nothing on disk.
        process.kill()
        process.wait(timeout=30)


def main() -> None:
    """Serve until terminated; the first line of the output is the port."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
