"""A certificate for this machine."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(directory: Path) -> Path:
    """Writes key.pem, cert.pem, its own authority, and an ssl.config made of them."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    key, cert = ((directory / it).read_text() for it in ("key.pem", "cert.pem"))
    config = f"server_key: {json.dumps(key)} server_cert: {json.dumps(cert)}"
    (directory / "ssl.config").write_text(config)
    return directory
