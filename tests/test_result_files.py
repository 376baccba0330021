"""Results files: compact, equal to what was written, and free of names of single images."""

import json
import re

import numpy as np

from benchmarks import audit_counts, made_by, result_files


def test_compact_json_has_the_same_value_with_one_record_per_line(tmp_path):
    records = [{"net": f"net{i}", "ms": np.float32(i), "note": "x" * 700} for i in range(4)]
    path = tmp_path / "file.json"
    result_files.write(path, {"command": "x", "seed": 3, "records": records, "empty": [], "nan": float("nan")})
    value = json.loads(path.read_text())
    assert value["records"] == [{"net": f"net{i}", "ms": i, "note": "x" * 700} for i in range(4)]
    assert value["empty"] == [] and value["nan"] is None
    lines = path.read_text().splitlines()
    assert lines[:3] == ["{", ' "command": "x", "seed": 3,', ' "records": [']
    assert len(lines) == 11 and [line for line in lines if '"net2"' in line][0].count('"ms"') == 1


def test_the_files_are_compact_and_name_no_image():
    lines = 0
    for path in result_files.RESULTS.glob("*.json"):
        text = path.read_text()
        assert result_files.compact(json.loads(text)) + "\n" == text, path.name
        assert not re.search(r"\.(jpe?g|png)\b", text), path.name
        assert not re.search(r"(?<![\w.:/])/(tmp|home|root|work|mnt|Users)/", text), f"{path.name} names a folder"
        lines += len(text.splitlines())
    assert 0 < lines <= 1500


def test_the_command_of_a_measurement_names_files_without_their_folders(tmp_path):
    source = f"{tmp_path / 'UTKFace.tar'},{tmp_path / 'aligned' / 'fairface'}"
    made = made_by.made_by("pasted_faces", source, workdir=[str(tmp_path / "ran"), "runs/resnet"], weights=None, seed=0)
    command = "--source=UTKFace.tar,fairface --workdir=ran --workdir=resnet --seed=0"
    assert made["command"] == f"python -m benchmarks.pasted_faces {command}"
    assert made["machine"]["cores"] and made["versions"]["jax"] and str(tmp_path) not in json.dumps(made)


def test_counts_replace_lists_of_images():
    pictures = [{"file": "a.jpg"}, {"file": "b.jpg"}]
    audit = {
        "n": 5,
        "unusable": pictures,
        "left_out": [],
        "remarks": [],
        "exact": {"pairs": 1, "groups": [{"files": pictures}]},
        "near": {"pairs": 1, "groups": [{"files": pictures}]},
        "images": {"sizes": [{"width": 200}], "odd_size": pictures, "tiny": [], "blank": []},
    }
    counts = audit_counts.counts(audit)
    assert counts["unusable"] == 2 and counts["exact"] == counts["near"] == {"pairs": 1, "groups": 1}
    assert counts["images"] == {"sizes": [{"width": 200}], "odd_size": 2, "tiny": 0, "blank": 0}
    assert "jpg" not in json.dumps(counts) and audit["unusable"] == pictures
