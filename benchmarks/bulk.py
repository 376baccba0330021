"""Speed and memory of predict: many pictures, the first prediction after a start, and comparison with face-api.js.

npm install --prefix runs/face_api @vladmandic/face-api @tensorflow/tfjs @tensorflow/tfjs-backend-wasm
python -m benchmarks.bulk [--what=start,folders,memory,shares,face_api] [--weights=NAME | --random] [--repeats=3]

Pictures are drawn (`synthetic.draw_photo`), a few hundred of each kind under many names. folders: 10,000 chips of 112
pixels with --detector=none, and 500 photos of three faces at 640 to 1,600 pixels, by the local engine and by Ray with
two workers. memory: 500 and 5,000 pictures of one face at 200 pixels. start: one photo, with an empty cache of compiled
programs and with a full one. shares: CPU time of a chip in each step of a Predictor. face_api: images per second of a
warmed-up Predictor, from encoded files, and of face-api.js in Node, from decoded pixels, alternating, for photos of
each size. Each part is written to results/bulk.json when it is done; the other parts there are kept.
"""

import argparse
import itertools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np

from agegender_jax import synthetic
from agegender_jax.cli.exits import guard
from agegender_jax.run.host import ynnpack
from agegender_jax.run.workdir import provenance
from benchmarks import face_api, machine, result_files

PARTS = ("start", "folders", "memory", "shares", "face_api")
SIZES = ((640, 480), (960, 720), (1280, 960), (1600, 1200))
DISTINCT = 200  # chips; a tenth as many photos


def main() -> None:
    ynnpack.avoid()  # as the commands do
    given = os.environ.get("XLA_FLAGS", "").replace(ynnpack.WITHOUT, "").strip()
    settings = {"XLA_FLAGS": given} if given else {}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--what", default=",".join(PARTS))
    parser.add_argument("--weights", default="default")
    parser.add_argument("--random", action="store_true", help="random weights of Attention-56 and ResNet-18, see below")
    parser.add_argument("--chips", type=int, default=10_000)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--package", type=pathlib.Path, default=pathlib.Path("runs/face_api") / face_api.PACKAGE)
    parser.add_argument("--out", type=pathlib.Path, help="the results, if not benchmarks/results/bulk.json")
    args = parser.parse_args()
    if "XLA_FLAGS" in settings and not args.out:
        parser.error("XLA_FLAGS is set, so these are not the published measurements: name a file with --out")
    if len(parts := args.what.split(",")) > 1:  # a process each, whose memory would count as that of its commands
        others = [word for word in sys.argv[1:] if not word.startswith("--what=")]
        for part in parts:
            subprocess.run([sys.executable, "-m", "benchmarks.bulk", *others, f"--what={part}"], check=True)
        return
    path = args.out or result_files.RESULTS / "bulk.json"
    package = ("--package", str(args.package), f"--package={args.package}")  # wherever face-api.js lies
    words = [word for word in sys.argv[1:] if word not in package]
    typed = shlex.join(["python", "-m", "benchmarks.bulk", *words])
    results = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        nets = [f"--weights={args.weights}"]
        if args.random:
            nets = ["--weights=random", f"--weights_dir={random_weights(folder / 'weights')}"]
        for part in args.what.split(","):
            work = {"start": start, "folders": folders, "memory": memory, "shares": shares, "face_api": beside_face_api}
            (folder / part).mkdir()
            results[part] = {
                "rows": work[part](folder / part, nets, args),
                "weights": "random" if args.random else args.weights,
                "repeats": args.repeats,
                "machine": machine.machine() | {"load": round(os.getloadavg()[2], 1)},
                "made_by": provenance.made_by(sys.argv)
                | {"command": typed}
                | ({"environment": settings} if settings else {}),
            }
            result_files.write(path, results)
            print(json.dumps(results[part]["rows"], indent=1), flush=True)


def start(folder: pathlib.Path, nets: list[str], args: argparse.Namespace) -> list[dict]:
    """Return wall and CPU seconds of the command for one photo, from its start to its end."""
    synthetic.write_photo(folder / "photo.jpg")
    rows = []
    for i in range(args.repeats):
        cache = folder / f"cache{i}"
        for kind in ("cold", "compiled", "compiled"):
            done = command([folder / "photo.jpg"], folder / f"out{len(rows)}", nets, XDG_CACHE_HOME=str(cache))
            rows.append({"cache": kind} | done)
    return rows


def folders(folder: pathlib.Path, nets: list[str], args: argparse.Namespace) -> list[dict]:
    """Return the figures of a folder of chips and one of photos, for both engines."""
    chips = many(folder / "chips", args.chips, [draw_chip(i) for i in range(DISTINCT)])
    photos = many(folder / "photos", args.photos, [draw_photo(i) for i in range(DISTINCT // 10)])
    engines = {"local": [], "ray": ["--engine=ray", "--ray_workers=2"]}
    rows = []
    for (kind, place, options), engine in itertools.product(
        (("chips", chips, ["--detector=none"]), ("photos", photos, [])), engines
    ):
        out = folder / f"{kind}-{engine}"
        done = command([place], out, [*nets, *options, *engines[engine]])
        summary = json.loads((out / "summary.json").read_text())
        taken = {key: summary[key] for key in ("pictures", "faces", "seconds", "pictures_per_second")}
        same = (out / "predictions.csv").read_bytes() == (folder / f"{kind}-local" / "predictions.csv").read_bytes()
        rows.append({"pictures_are": kind, "engine": engine} | taken | {"same_csv_as_local": same} | done)
    return rows


def memory(folder: pathlib.Path, nets: list[str], args: argparse.Namespace) -> list[dict]:
    """Return the peak memory of a process for few and for many pictures."""
    rows = []
    for count in (500, 5000):
        place = many(folder / str(count), count, [draw_chip(i, 200) for i in range(DISTINCT)])
        rows.append({"pictures": count} | command([place], folder / f"out{count}", nets))
    return rows


def shares(folder: pathlib.Path, nets: list[str], args: argparse.Namespace) -> list[dict]:
    """Return the CPU milliseconds per chip in each step: the lowest of several measurements."""
    from agegender_jax import Predictor

    predictor, mirrored = (Predictor(**named(nets), detector="none", views=views) for views in (None, "flip"))
    chips = [draw_chip(i) for i in range(64)]
    looked = [predictor._look("chip", chip, 0) for chip in chips]
    sized = {size: np.stack([chip.sized[size] for _, (chip,) in looked]) for size in predictor.sizes}
    probs = predictor.probs(sized)
    steps = {
        "decode, resize, warnings": lambda: [predictor._look("chip", chip, 0) for chip in chips],
        "nets": lambda: predictor.probs(sized),
        "nets, mirror images too": lambda: mirrored.probs(sized),
        "intervals, flags": lambda: list(predictor.faces_from_probs.add_faces(looked, probs, max(predictor.sizes))),
        "all": lambda: list(predictor.pictures(chips)),
    }
    rows = []
    for step, work in steps.items():
        work()  # compiles
        seconds = []
        for _ in range(3 * args.repeats):
            began = time.process_time()
            work()
            seconds.append(time.process_time() - began)
        rows.append({"step": step, "cpu_ms_a_chip": round(1000 * min(seconds) / len(chips), 3)})
    return rows


def named(nets: list[str]) -> dict[str, str]:
    """Return the options of a Predictor for flags of a command."""
    return dict(option.removeprefix("--").split("=", 1) for option in nets)


def beside_face_api(folder: pathlib.Path, nets: list[str], args: argparse.Namespace) -> list[dict]:
    """Return images a second of both, and their ratio, in turns; of chips also with mirror images."""
    from agegender_jax import Predictor
    from agegender_jax.data.decoding import decode

    kinds = {
        "chips": [[draw_chip(i) for i in range(64)]],
        "photos": [[draw_photo(i, size) for i in range(3)] for size in SIZES],
    }
    rows = []
    for kind, views in (("chips", None), ("chips", "flip"), ("photos", None)):
        groups = kinds[kind]
        predictor = Predictor(**named(nets), detector="none" if kind == "chips" else "yunet", views=views)
        backends = ("wasm",) if kind == "photos" or views else ("wasm", "cpu")  # cpu takes minutes for a photo
        for group, backend in itertools.product(groups, backends):
            few = group[:32] if backend == "wasm" else group[:2]
            often = group * 8 if kind == "chips" else group
            decoded = [decode(content) for content in few]
            size = f"{decoded[0].shape[1]}x{decoded[0].shape[0]}"
            list(predictor.pictures(group))  # compiles, and makes a detector of this size in each thread
            for _ in range(args.repeats):
                began = time.perf_counter()
                ours = list(predictor.pictures(often))
                ours_rate = len(ours) / (time.perf_counter() - began)
                theirs_rate, faces = rate_of_face_api(decoded, args.package, backend, kind)
                rows.append(
                    {"pictures_are": kind, "views": views, "size": size, "backend": backend}
                    | {"ours_per_second": round(ours_rate, 3)}
                    | {"face_api_per_second": round(theirs_rate, 3), "ratio": round(ours_rate / theirs_rate, 2)}
                    | {"faces": len(ours[0].faces), "face_api_faces": faces}
                )
                print(json.dumps(rows[-1]), flush=True)
    return rows


def rate_of_face_api(images: list[np.ndarray], package: pathlib.Path, backend: str, kind: str) -> tuple[float, int]:
    """Return the images per second after the first image, and the number of faces in the first."""
    predictions = face_api.predict([images[0], *images], package, backend, kind)
    faces = len(next(predictions).get("faces", [None]))
    began = time.perf_counter()
    count = sum(1 for _ in predictions)
    return count / (time.perf_counter() - began), faces


def command(paths: list, out: pathlib.Path, options: list[str], **variables: str) -> dict[str, float]:
    """Run agegender predict; return its wall and CPU seconds, of itself and its children, and its peak memory."""
    argv = [sys.executable, "-m", "launch.predict", *map(str, paths), f"--out={out}", *options]
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=os.environ | variables, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(argv)} ended with {code}")
    return {
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def many(folder: pathlib.Path, count: int, contents: list[bytes]) -> pathlib.Path:
    """Write `count` JPEGs, of the contents in turn, and return their folder."""
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:06}.jpg").write_bytes(contents[i % len(contents)])
    return folder


def draw_chip(seed: int, size: int = 112) -> bytes:
    rng = np.random.default_rng(seed)
    return jpeg(synthetic.draw_face(rng, *synthetic.sample_label(rng), size)[0])


def draw_photo(seed: int, size: tuple[int, int] | None = None) -> bytes:
    """Return a JPEG of three faces; its size is one of SIZES in turn if None."""
    return jpeg(synthetic.draw_photo(*(size or SIZES[seed % len(SIZES)]), seed=seed))


def jpeg(image: np.ndarray) -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=90)
    return out.getvalue()


def random_weights(folder: pathlib.Path) -> pathlib.Path:
    """Write random weights of Attention-56 and ResNet-18 of half width for 64 pixels, mirrored views averaged."""
    import jax

    from agegender_jax import weights
    from agegender_jax.checkpoint.variable_shapes import variable_shapes
    from agegender_jax.configs import best

    folder.mkdir()
    names = ("ran", "resnet")
    for name in names:
        config = best.get_config(name).to_dict()
        rng = np.random.default_rng(0)

        def fill(path, leaf, rng=rng):
            if "var" in str(path[-1]) or "scale" in str(path[-1]):
                return np.ones(leaf.shape, np.float32)
            scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 0
            return np.float32(scale * rng.normal(size=leaf.shape))

        variables = jax.tree_util.tree_map_with_path(fill, variable_shapes(config))
        fields = {"config": weights.card_config(config), "temperatures": [1, 1], "chip_size": 112, "calibration": None}
        weights.write(folder, name, variables, fields)
    weights.write_ensemble(folder, "random", {"members": names, "chip_size": 112, "calibration": None})
    return folder


if __name__ == "__main__":
    guard(main)
