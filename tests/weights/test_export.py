"""An exported model: torch's points, in a runtime that knows nothing of popos, and a weight file again."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from popos_cli.core.choices import DECODER_NAMES, RESOLUTIONS
from popos_cli.core.codec import Codec
from popos_cli.core.geometry import tight_square
from popos_cli.core.schemes import SCHEMES, Scheme
from popos_cli.data.pictures import read_image
from popos_cli.errors import PoposError, PoposWarning, UsageError
from popos_cli.predict.predictor import Predictor
from popos_cli.predict.runtime import OnnxRuntime, TorchRuntime, load_runtime
from popos_cli.prepare.synthetic import draw_face
from popos_cli.weights.export import export
from popos_cli.weights.find import find_weights
from popos_cli.weights.format import read_info, read_weights, replace_info, save_weights
from popos_cli.weights.info import CodecInfo, WeightsInfo

DOCS = Path(__file__).parents[2] / "docs"
OWN = Scheme(
    name="triangle", landmarks=3, groups={"left": (0,), "right": (1,), "chin": (2,)}, closed=frozenset(),
    flip_pairs=((0, 1),), eye_corners=(0, 1), threshold=0.08,
)  # fmt: skip


@pytest.fixture(scope="module")
def crops():
    return np.stack(
        [cv2.resize(draw_face(1, n, SCHEMES["300w"])[0], (256, 256))[..., ::-1] for n in range(5)]
    )


def seeing(resolution, scheme, decoder, alignment, path):
    """Weights of any kind whose heatmaps have peaks: the bundled ones, where tensors fit."""
    kept = read_weights(find_weights("default" if resolution >= 16 else "small")).model.state_dict()
    info = WeightsInfo(
        resolution=resolution, scheme=scheme.name, codec=CodecInfo(decoder=decoder, alignment=alignment),
        scheme_definition=None if scheme.name in SCHEMES else scheme.to_dict(), label_offset=(1.0, 1.0),
    )  # fmt: skip
    model = info.build_model(scheme.landmarks)
    state = model.state_dict()
    for name, tensor in state.items():
        if name in kept:
            state[name] = kept[name][tuple(map(slice, tensor.shape))]
    save_weights(path, state, info, half=False)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return seeing(4, OWN, "popos", "mmpose", tmp_path_factory.mktemp("export") / "own.safetensors")


@pytest.fixture(scope="module")
def exported(weights):
    path, parity = export(str(weights), None, half=True, heatmaps=True, inputs="float")
    assert path == weights.with_suffix(".onnx")
    assert parity < 0.01
    return path


def apart(graph, path, crops):
    """The largest difference between the two engines' points, crop pixels; scores and uncertainty agree."""
    there, here = OnnxRuntime(graph)(crops), TorchRuntime(path, "cpu")(crops)
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-3)
    np.testing.assert_allclose(there.uncertainty, here.uncertainty, rtol=1e-2, atol=1e-3)
    return np.abs(there.points - here.points).max()


@pytest.mark.parametrize("name", ["default", "small"])
def test_bundled_models_are_those_of_the_bundled_weights(name, crops):
    """They were linked to these very files, need no torch, and differ by less than a hundredth of a pixel."""
    path = find_weights(name)
    runtime = load_runtime(path, "cpu")
    assert isinstance(runtime, OnnxRuntime)
    assert runtime.info == read_info(path)
    assert apart(runtime.graph, path, crops) < 0.01
    alone = [OnnxRuntime(runtime.graph)(crops[n : n + 1]).points[0] for n in range(len(crops))]
    np.testing.assert_allclose(runtime(crops).points, alone, atol=0.01)
    quick = pickle.loads(pickle.dumps(load_runtime(path, "cpu", quick_start=True)))
    assert quick.quick_start
    np.testing.assert_allclose(runtime(crops).points, quick(crops).points, atol=0.01)


def test_an_own_scheme_in_half_precision_with_heatmaps_and_float_crops(weights, exported, crops):
    assert exported.stat().st_size < 0.6 * weights.stat().st_size
    assert apart(exported, exported, crops) < 0.01  # torch with the halved tensors
    session = onnxruntime.InferenceSession(str(exported))
    images = (crops.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    points, heatmaps = session.run(["points", "heatmaps"], {"images": images})
    assert (points.shape, heatmaps.shape) == ((5, 3, 2), (5, 3, 4, 4))
    decoded = Codec(4, 256, decoder="popos", alignment="mmpose").decode(heatmaps)
    np.testing.assert_allclose(decoded.points, points, atol=0.01)


def test_an_exported_file_is_a_weight_file(exported, weights, crops):
    """Its tensors and metadata, read back; the flip test and GPUs run it in torch."""
    again, source = read_weights(exported), read_weights(weights)
    assert again.info == source.info
    assert again.scheme == OWN
    for name, tensor in source.model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(again.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert isinstance(load_runtime(exported, "cpu", flip_test=True), TorchRuntime)


def test_a_model_that_is_older_than_its_weights_is_not_used(exported, weights, tmp_path):
    for file in (exported, weights):
        shutil.copy(file, tmp_path)
    path = tmp_path / weights.name
    assert isinstance(load_runtime(path, "cpu"), OnnxRuntime)
    replace_info(path, path, read_info(path).model_copy(update={"training": {"epoch": 2}}))
    assert isinstance(load_runtime(path, "cpu"), TorchRuntime)


def test_a_model_that_cannot_be_used_does_not_hide_its_weights(weights, tmp_path):
    path = Path(shutil.copy(weights, tmp_path))
    path.with_suffix(".onnx").write_text("hello")
    with pytest.warns(PoposWarning, match="runs in torch"):
        assert isinstance(load_runtime(path, "cpu"), TorchRuntime)


def test_a_linked_model_refuses_other_tensors(tmp_path):
    folder = find_weights("small").parent
    for ending in ("onnx", "safetensors"):
        shutil.copy(folder / f"popos-300w-8.{ending}", tmp_path)
    graph, path = tmp_path / "popos-300w-8.onnx", tmp_path / "popos-300w-8.safetensors"
    assert isinstance(load_runtime(graph, "cpu"), OnnxRuntime)
    replace_info(path, path, read_info(path).model_copy(update={"training": {"epoch": 2}}))
    with pytest.raises(PoposError, match="is another file now"):
        read_info(graph)
    with pytest.raises(PoposError):  # by ONNX Runtime, where the file's length does not fit any more
        load_runtime(graph, "cpu")


def test_only_onnxruntime_and_numpy_are_needed(exported):
    code = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "images = numpy.zeros((2, 3, 256, 256), numpy.float32)\n"
        "print([values.shape for values in session.run(None, {'images': images})])\n"
        "assert not {'torch', 'popos_cli', 'cv2'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, exported], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[(2, 3, 2), (2, 3), (2, 3), (2, 3, 4, 4)]"


def test_refusals(exported, weights, tmp_path):
    with pytest.raises(PoposError, match="exists already"):
        export(str(weights), None)
    with pytest.raises(UsageError, match="must end in"):
        export(str(weights), tmp_path / "model.bin")
    with pytest.raises(UsageError, match="beside its weights"):
        export(str(weights), tmp_path / "model.onnx", link=True)
    with pytest.raises(UsageError, match="is exported already"):
        export(str(exported), tmp_path / "again.onnx")
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(exported.read_bytes()[:-1000])
    for read in (read_info, lambda path: load_runtime(path, "cpu")):
        with pytest.raises(PoposError, match=r"torn\.onnx"):
            read(torn)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", RESOLUTIONS)
# gauss-newton diverges on some maps, so that rounding decides where it ends: some of its models are refused.
@pytest.mark.parametrize("decoder", [name for name in DECODER_NAMES if name != "gauss-newton"])
def test_every_resolution_and_decoder(resolution, decoder, crops, tmp_path):
    scheme = SCHEMES["cofw" if decoder == "dark" else "300w"]
    alignment = {"popos": "mmpose", "two-hot": "hrnet"}.get(decoder, "center")
    path = seeing(resolution, scheme, decoder, alignment, tmp_path / "any.safetensors")
    _, parity = export(str(path), tmp_path / "any.onnx")
    print(resolution, decoder, parity)
    assert parity < 0.01


def test_the_page_on_export_shows_a_program_that_works(tmp_path, monkeypatch):
    """docs/how-to/export.md's program finds the astronaut's landmarks, with nothing of popos."""
    folder = find_weights("default").parent
    shutil.copy(folder / "popos-300w-16.onnx", tmp_path / "default.onnx")
    shutil.copy(folder / "popos-300w-16.safetensors", tmp_path)
    shutil.copy(DOCS / "assets/astronaut.jpg", tmp_path / "photo.jpg")
    page = (DOCS / "how-to/export.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    (face,) = Predictor()(read_image(tmp_path / "photo.jpg", upright=True))
    center, side = tight_square(face.points)
    side = round(1.25 * side)
    x, y = (center - (side - 1) / 2).round().astype(int)
    monkeypatch.chdir(tmp_path)
    variables = {}
    exec(program.replace("166, 74, 119", f"{x}, {y}, {side}"), variables)
    off = np.linalg.norm(variables["points"] - face.points, axis=1)
    assert off.mean() < 0.01 * np.ptp(face.points[:, 0])
