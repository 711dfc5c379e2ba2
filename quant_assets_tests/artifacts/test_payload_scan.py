"""The payload scan: what it finds wherever it is, and that real models and random bytes are not it."""

import importlib.util
import io
import os
import pickle
import py_compile
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from quant_assets.artifacts.bundle.payload_scan import find_pickles, payload_scan
from quant_assets.common.errors import ArtifactError
from quant_assets.models.learners import fit_learner
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS


class Payload:
    def __reduce__(self):
        return os.system, ("true",)


class Argument:
    """A harmless module, so that the scan may not rest on a list of dangerous ones."""

    def __reduce__(self):
        return complex, (1.0, 2.0)


def kinds(data, name="file.bin"):
    return {finding.kind for finding in payload_scan({name: data}).findings}


NOISE = np.random.default_rng(3).bytes(5000)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_is_found_as_a_file(protocol):
    report = payload_scan({"model.onnx": pickle.dumps(Payload(), protocol)})
    assert not report.clean
    assert "posix.system (dangerous)" in " ".join(finding.what for finding in report.findings)
    with pytest.raises(ArtifactError, match=r"model\.onnx at byte 0: .*posix"):
        report.require_clean()


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("payload", [Payload(), Argument()])
def test_a_pickle_is_found_at_any_offset_with_or_without_its_end(protocol, payload):
    data = pickle.dumps(payload, protocol)
    for whole in (data, data[:-2]):  # an import runs before the end is missed
        for before in (b"", b"\x08", NOISE):
            found = list(find_pickles(before + whole + NOISE))
            assert (len(before), "pickle") in [(offset, what[2:8]) for offset, what in found]


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_text_pickle_with_a_dangerous_import_is_found_at_any_offset(protocol):
    for before in (b"", b"xi", NOISE, b"c" * 1000):
        assert "pickle" in kinds(before + pickle.dumps(Payload(), protocol))


def test_names_that_come_out_of_the_memo_are_found():
    """Both strings are put aside and fetched again: the opcodes before STACK_GLOBAL are no strings."""
    stream = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94000h\x00h\x01\x93\x8c\x04true\x85R."
    assert kinds(NOISE + stream) == {"pickle"}


def test_padding_before_the_import_does_not_hide_it():
    stream = b"\x80\x04" + b"N0" * 30_000 + pickle.dumps(Payload(), 4)[2:]
    assert kinds(stream) == {"pickle"}


def test_a_pickle_that_imports_nothing_is_still_no_artifact():
    assert kinds(pickle.dumps({"weights": [1.0, 2.0]})) == {"pickle"}


def zipped(content, name="data.pkl", method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def test_an_archive_inside_is_found_and_the_pickle_in_it_is_named():
    for before in (b"", NOISE):
        report = payload_scan({"model.onnx": before + zipped(pickle.dumps(Payload()))})
        assert {"archive", "pickle"} <= {finding.kind for finding in report.findings}
        assert "model.onnx!data.pkl" in {finding.file for finding in report.findings}


def test_a_zip_bomb_inside_is_not_unpacked():
    bomb = zipped(bytes(80 << 20))
    assert len(bomb) < 1 << 20
    assert kinds(bomb) == {"archive", "unscannable"}


def compiled(tmp_path):
    source = tmp_path / "payload.py"
    source.write_text("print('hello')\n")
    py_compile.compile(str(source), cfile=str(tmp_path / "payload.pyc"), doraise=True)
    return (tmp_path / "payload.pyc").read_bytes()


def pe_file():
    return b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\x00\x00" + bytes(20)


def test_programs_are_found_also_behind_other_bytes(tmp_path):
    with Path(sys.executable).open("rb") as interpreter:
        head = interpreter.read(4096)
    elf = head if sys.platform == "linux" else b"\x7fELF\x02\x01\x01" + bytes(57)
    mach_o = struct.pack("<IIII", 0xFEEDFACF, 0x0100000C, 0, 2) + bytes(16)
    for program in (elf, pe_file(), mach_o):
        for before in (b"", NOISE):
            assert kinds(before + program) == {"program"}
    assert kinds(compiled(tmp_path)) == {"program"}
    assert compiled(tmp_path)[:4] == importlib.util.MAGIC_NUMBER
    assert kinds(b"#!/bin/sh\nexit\n") == {"program"}


def test_compressed_files_are_found():
    import bz2
    import gzip
    import lzma

    for data in (gzip.compress(NOISE), bz2.compress(NOISE), lzma.compress(NOISE)):
        assert kinds(data) == {"archive"}
    array = io.BytesIO()
    np.save(array, np.array([Payload()], dtype=object), allow_pickle=True)
    assert kinds(array.getvalue()) == {"archive", "pickle"}


def test_an_empty_file_is_a_finding():
    assert kinds(b"") == {"empty"}


def test_graphs_are_looked_into_only_when_asked():
    files = {"model.onnx": b"not a graph"}
    assert payload_scan(files, graphs=False).clean
    assert [f.kind for f in payload_scan(files).findings] == ["graph"]


def test_a_file_made_to_tire_the_scan_out_is_refused_in_seconds():
    """Almost-pickles that each read to the end: quadratic work without a budget."""
    data = b"\x80\x04\x8c\x00" * 4 + b"\x80\x04U" * 200_000
    script = (
        "import sys, time; from quant_assets.artifacts.bundle.payload_scan import payload_scan\n"
        "data = sys.stdin.buffer.read(); payload_scan({'a': data}); print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert float(done.stdout) < 20.0
    lines = b"\x80\x02c" * 300_000  # each looks for a line's end in all that follows
    assert kinds(lines) == {"unscannable"}


def test_the_same_files_give_the_same_report_and_the_report_is_plain_data(graph):
    files = {"a.txt": b"text", "model.onnx": graph, "b.bin": pickle.dumps(Payload())}
    report = payload_scan(files)
    assert payload_scan(dict(reversed(files.items()))) == report
    assert report.to_json()["files"] == 3
    assert report.to_json()["findings"][0]["file"] == "b.bin"


def test_real_models_graphs_and_random_bytes_give_no_false_alarm(training_data, graph, student, ensemble):
    """100 files: learners of other seeds, graphs, an SBOM, a card's text, and 20 MB of random bytes."""
    from quant_assets.artifacts.bundle.archive import environment_sbom

    files = {
        "model.onnx": graph,
        "int8.onnx": student.int8,
        "fp32.onnx": student.fp32,
        "sbom": environment_sbom(),
    }
    for seed in range(20):
        for name in ("lightgbm", "xgboost"):
            learner = fit_learner(
                name, getattr(SMALL_MODELS, name), training_data.features, training_data.target,
                seed=seed, feature_names=FEATURES,
            )  # fmt: skip
            files[f"{name}_{seed}"] = learner.text.encode()
    random = np.random.default_rng(11)
    files |= {f"random_{i}": random.bytes(1 << 20) for i in range(20)}
    files |= {f"scores_{i}": random.normal(0, 0.01, 50_000).astype(np.float32).tobytes() for i in range(36)}
    assert len(files) == 100
    assert payload_scan(files).findings == ()
