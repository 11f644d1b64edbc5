"""What training leaves is written whole or not at all, and the same content gives the same checkpoint."""

import json

import pytest
import torch
from biosam2.errors import OutputError
from biosam2.models.network import build_network, load_config
from biosam2.training.files import save_state, save_weights
from safetensors import safe_open


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(load_config("nano"))


def test_the_same_weights_and_facts_give_the_same_bytes_whatever_the_order_of_facts(network, tmp_path):
    facts = {f"fact {n}": n for n in range(20)}
    save_weights(network, tmp_path / "one.safetensors", facts)
    save_weights(network, tmp_path / "two.safetensors", dict(reversed(facts.items())))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_and_facts_are_read_back(network, tmp_path, dtype):
    path = tmp_path / "weights.safetensors"
    save_weights(network, path, {"steps": 3, "settings": {"size": 256}}, dtype)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["biosam2"]) == {"steps": 3, "settings": {"size": 256}}
        assert set(file.keys()) == set(network.state_dict())
        for name, tensor in network.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor.to(dtype)), name


def test_what_cannot_be_written_is_one_line_and_leaves_the_earlier_file(network, tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    with pytest.raises(OutputError, match=r"cannot write .*nowhere") as error:
        save_weights(network, tmp_path / "nowhere" / "weights.safetensors", {})
    assert "\n" not in str(error.value)
    with pytest.raises(AttributeError):
        save_state(path, {"step": lambda: 2})
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
