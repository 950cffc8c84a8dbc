"""What a command imports, and what it says where an import fails."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from hosts import Hub

import popos_cli
from popos_cli.cli import app

COMMANDS = [name for name in app.COMMANDS if name != "bench"]
ALIASES = {"prepare": "prepare-data", "eval": "evaluate", "download": "download-weights"}
MISMATCH = "RuntimeError('operator torchvision::nms does not exist')"
NO_GL = "ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
MAIN = "from popos_cli.cli.app import main\nassert main({}) == 0"


@pytest.mark.parametrize(
    ("code", "printed", "unwanted"),
    [
        (MAIN.format(["--help"]), "predict", "torch torchvision cv2 matplotlib huggingface_hub"),
        ("import popos_cli", "", "torch cv2 matplotlib numpy typer"),
        (
            MAIN.format("['predict', PHOTO, '--json']"), '"landmarks"',
            "torch torchvision matplotlib timm onnx scipy PIL huggingface_hub.file_download "
            "filelock rich.progress rich.table popos_cli.cli.bench popos_cli.cli.train",
        ),
    ],
    ids=["help", "package", "predict"],
)  # fmt: skip
def test_nothing_heavy_is_imported_in_vain(environment, astronaut, code, printed, unwanted):
    ask = f"import sys; print(*(name for name in {unwanted.split()} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"PHOTO = {str(astronaut)!r}\n{code}\n{ask}"],
        env=environment, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert printed in done.stdout
    assert done.stderr.splitlines()[-1] == ""


def test_as_a_module(popos_process):
    assert popos_process("--version").ok().out == f"popos {popos_cli.__version__}\n"


def test_without_arguments_the_help_is_shown(popos):
    result = popos()
    assert (result.code, result.err) == (2, "")
    assert "predict" in result.out


@pytest.mark.parametrize("command", [*COMMANDS, *ALIASES])
def test_help_has_examples(popos, command):
    out = popos(command, "--help").ok().out
    assert "Examples:" in out and "--json" in out
    assert f"popos {ALIASES.get(command, command)} " in " ".join(out.split())


def test_aliases_are_the_same_functions():
    callbacks = {info.name: info.callback for info in app.build().registered_commands}
    assert set(callbacks) == {*COMMANDS, *ALIASES}
    for alias, name in ALIASES.items():
        assert callbacks[alias] is callbacks[name]


@pytest.fixture
def broken(tmp_path, environment):
    """The variables under which importing a package raises `error`, as a broken one does."""

    def make(package, error):
        folder = tmp_path / "broken" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"raise {error}\n")
        return {"PYTHONPATH": f"{folder.parent}:{environment['PYTHONPATH']}"}

    return make


@pytest.mark.slow
def test_torchvision_of_another_torch(popos_process, broken, synthetic, shop, astronaut, tmp_path):
    """Training and doctor say what to install; predict does without torchvision."""
    env = broken("torchvision", MISMATCH)
    result = popos_process(*shop.train, env=env)
    assert result.code == 1 and "Traceback" not in result.err
    (line,) = result.errors
    assert "torch and torchvision do not match" in line and "torchvision::nms" in line
    assert "pip install" in result.err
    assert not (tmp_path / "runs").exists()  # found before there is a run
    popos_process("predict", astronaut, "--json", env=env).ok()
    check = popos_process("doctor", "--json", env=env)
    assert check.code == 1
    (problem,) = check.json["problems"]
    assert problem["package"] == "torchvision"
    assert "torchvision::nms" in problem["message"] and "pip install" in problem["hint"]
    assert check.json["packages"]["torchvision"] == "does not import"


@pytest.mark.slow
def test_opencv_without_its_libraries(popos_process, broken, astronaut):
    env = broken("cv2", NO_GL)
    result = popos_process("predict", astronaut, env=env)
    check = popos_process("doctor", env=env)
    assert (result.code, check.code) == (1, 1)
    assert "Traceback" not in result.err + check.err
    (line,) = result.errors
    for said in (line, check.out):
        assert "OpenCV does not import: libGL.so.1" in said
    for said in (result.err, check.out):
        assert "apt-get install libgl1" in said


def test_doctor_finds_nothing_wrong_here(popos, trained):
    report = popos("doctor", "--json").ok().json
    assert report["problems"] == []
    assert report["popos"] == popos_cli.__version__
    assert "does not import" not in report["packages"].values()
    assert report["devices"][0].startswith("cpu")
    (dataset,) = report["datasets"]
    assert (dataset["name"], dataset["faces"], dataset["pictures"]) == ("synthetic", 24, "there")
    assert [w["name"] for w in report["weights"]] == [str(trained), "default", "small", "tiny"]
    assert "no problems found" in popos("doctor").ok().out


def test_a_torn_dataset_does_not_stop_doctor(popos, synthetic, home):
    path = home / "datasets/synthetic.npz"
    path.write_bytes(path.read_bytes()[:1000])
    (dataset,) = popos("doctor", "--json").ok().json["datasets"]
    assert dataset["name"] == "synthetic" and "not a readable index" in dataset["error"]


def offline_prefix():
    """A command prefix that cuts off the network, or None where the system does not let us."""
    unshare = shutil.which("unshare")
    for prefix in ([unshare, "-n"], [unshare, "-rn"]) if unshare else ():
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return None


def test_predict_needs_no_network(environment, astronaut):
    prefix = offline_prefix()
    if prefix is None:
        pytest.skip("needs unshare -n")
    environment.pop("HF_HUB_OFFLINE")  # nothing tells the program that the network is missing
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "popos_cli", "predict", str(astronaut), "--json"],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"landmarks"' in done.stdout


@pytest.mark.slow
def test_the_hub_out_of_reach(popos_process, synthetic, shop):
    """The address is named, and training starts without the network."""
    result = popos_process("download-weights", "hrnet-w18-imagenet", env={"HF_HOME": "hub"})
    assert result.code == 1 and "Traceback" not in result.err
    (line,) = result.errors
    assert "hf://timm/hrnet_w18.ms_in1k/model.safetensors" in line
    flags = [flag.replace("model.init=scratch", "model.init=auto") for flag in shop.train]
    result = popos_process(*flags, "--epochs", "1", env={"HF_HOME": "hub"}).ok()
    assert "starting from scratch, without ImageNet weights" in result.err


@pytest.mark.parametrize("flag", [True, False])
def test_yunet_is_asked_for_once(environment, astronaut, tmp_path, flag):
    """A Hub that has another file in its place: it is refused, Haar looks, and a day long nobody asks again.
    Not at all with --offline, which does not even import the client."""
    environment |= {"NO_PROXY": "127.0.0.1,localhost", "HF_HUB_OFFLINE": "0"}
    ask = "import sys; print(*(n for n in ('huggingface_hub', 'httpx') if n in sys.modules), file=sys.stderr)"
    code = MAIN.format(["predict", str(astronaut), "--json", "--weights", "small", *["--offline"] * flag])
    with Hub() as hub:
        hub.put("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx", b"another")
        for turn in range(2):
            done = subprocess.run(
                [sys.executable, "-c", f"{code}\n{ask}"],
                env={**environment, "HF_ENDPOINT": hub.url}, capture_output=True, text=True, timeout=600,
                check=True,
            )  # fmt: skip
            assert '"landmarks"' in done.stdout
            assert "note: faces are found by haar" in done.stderr
            assert ("wrong file" in done.stderr) == (not flag and not turn)
            imported = done.stderr.splitlines()[-1]
            assert ("huggingface_hub" in imported) == (not flag and not turn)
        requests = len(hub.log)
    assert (requests > 0) == (not flag) and requests < 5
