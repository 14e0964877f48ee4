"""Without a GPU: nothing touches a driver unless it is asked for, and what is missing is said in words."""

import os
import subprocess
import sys

import pytest

import minigrad as mg
from minigrad.devices import cuda
from minigrad.errors import DeviceError

absent = pytest.mark.skipif(cuda.is_available(), reason="there is a GPU")


@absent
def test_no_driver_is_one_clear_error():
    for ask in (
        lambda: mg.tensor([1.0]).to("cuda"),
        lambda: mg.tensor([1.0], device="cuda:1"),
        lambda: mg.Variable([1.0], device="cuda"),
        lambda: mg.nn.Dense(2).to("cuda")(mg.tensor([[1.0]])),
        cuda.count,
        cuda.Stream,
    ):
        with pytest.raises(DeviceError, match=r"cuda: .*(driver|minigrad\[cuda\])"):
            ask()
    assert cuda.status().startswith("cuda: ")


def test_import_and_the_cpu_leave_cuda_alone():
    program = (
        "import sys, minigrad as mg\n"
        "mg.grad(lambda x: mg.softmax(x).sum())(mg.tensor([1.0, 2.0]))\n"
        "print([m for m in sys.modules if m.startswith(('numba.cuda', 'numba_cuda', 'nvmath', 'greenlet'))])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
