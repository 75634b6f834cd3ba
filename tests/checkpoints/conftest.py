import pytest
from support import foreign


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> foreign.Foreign:
    """The field's checkpoints, unpacked."""
    return foreign.unpack(tmp_path_factory.mktemp("foreign"))
