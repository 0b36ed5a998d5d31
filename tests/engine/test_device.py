"""engine/device.py: what a device cannot do is refused by name."""

import pytest
import torch

from base.errors import BadInput
from engine.device import refuse_missing_operations


def test_an_operation_that_apples_gpu_lacks_is_bad_input_there_and_a_bug_elsewhere() -> None:
    message = "The operator 'aten::x' is not currently implemented for the MPS device.\nIf you want"
    refused = r"Apple's GPU cannot run this: The operator 'aten::x' is not .* device\.; use a"
    with pytest.raises(BadInput, match=refused), refuse_missing_operations(torch.device("mps")):
        raise NotImplementedError(message)
    with pytest.raises(NotImplementedError), refuse_missing_operations(torch.device("cpu")):
        raise NotImplementedError(message)
