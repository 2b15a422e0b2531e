"""The names of strategies: what each one says, and what is refused and why."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.errors import CommandError
from kerasllm.recipe.strategy_names import (
    STRATEGIES,
    check_communication,
    check_name,
    is_sharded,
    mesh_of,
)


@pytest.mark.parametrize("name", [kind for kind in STRATEGIES if kind != "virtual"])
def test_a_plain_name_has_no_argument(name):
    assert check_name(name) == (name, "")


@given(st.integers(1, 64))
def test_virtual_takes_any_number_up_to_64(count):
    assert check_name(f"virtual:{count}") == ("virtual", str(count))


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_a_mesh_is_named_by_the_devices_along_its_axes(data, model):
    name = f"sharded:{data}x{model}"
    assert check_name(name) == ("sharded", f"{data}x{model}") and is_sharded(name)
    assert mesh_of(f"{data}x{model}") == (data, model)


def test_a_mesh_of_all_devices_need_not_say_how_many():
    assert check_name("sharded:fsdp") == ("sharded", "fsdp")
    assert mesh_of("fsdp") is mesh_of("") is None and is_sharded("sharded")
    assert not is_sharded("mirrored")


@pytest.mark.parametrize("name", ["sharded:4", "sharded:0x4", "sharded:2x", "sharded:2 x 2"])
def test_a_mesh_that_is_none_is_refused(name):
    with pytest.raises(CommandError, match="how the devices are arranged") as error:
        check_name(name)
    assert "sharded:2x4" in error.value.fix


def test_a_tpu_is_named_by_all_that_follows_the_first_colon():
    assert check_name("tpu:grpc://10.0.0.2:8470") == ("tpu", "grpc://10.0.0.2:8470")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("miror", "mirrored"),
        ("MirroredStrategy", "mirrored"),
        ("MultiWorkerMirroredStrategy", "multi_worker"),
        ("multiworker", "multi_worker"),
        ("TPU", "tpu"),
        ("one-device", "one_device"),
        ("Virtual:2", "virtual:N"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(name, meant):
    with pytest.raises(CommandError) as error:
        check_name(name)
    assert repr(name) in error.value.what and error.value.fix == f"did you mean {meant}?"


@pytest.mark.parametrize(
    "name", ["parameter_server", "ParameterServerStrategy", "parameter-server"]
)
def test_parameter_servers_are_refused_with_the_reason_and_what_to_use(name):
    with pytest.raises(CommandError, match="asynchronous") as error:
        check_name(name)
    assert "multi_worker" in error.value.fix


def test_central_storage_is_refused_by_name():
    with pytest.raises(CommandError, match="'central_storage' is not supported"):
        check_name("central_storage")


@pytest.mark.parametrize("name", ["virtual", "virtual:", "virtual:0", "virtual:-1", "virtual:²"])
def test_virtual_without_a_number_of_devices_is_refused(name):
    with pytest.raises(CommandError, match="how many devices"):
        check_name(name)


@pytest.mark.parametrize("name", ["tpu:", "mirrored:2", "auto:", "", ":", "no such thing"])
def test_other_forms_are_refused_with_what_was_expected(name):
    with pytest.raises(CommandError, match="Expected: auto, one_device, mirrored"):
        check_name(name)


def test_an_unknown_communication_is_refused():
    with pytest.raises(CommandError, match="Expected: auto, ring or nccl"):
        check_communication("gloo")


def test_names_are_checked_without_tensorflow():
    code = (
        "import sys, kerasllm.recipe.strategy_names, kerasllm.distribution.tf_config\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
