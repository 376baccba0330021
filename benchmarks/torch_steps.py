"""PyTorch's side of `launch.benchmark --against=torch`: builds the same net, then runs steps on request.

The first line of stdin is a JSON object: `what` (train or evaluate), `config` (of the run, as dicts),
`num_age_classes`, `mean` and `std` of the images' channels, `compile`, `gpu`. The answer has `parameters`,
`version`, `threads`, `compiled`, `device`. Then every line is a number of steps, answered with `seconds` for each,
`peak_memory_mb` so far, and `compile_cached`, whether torch.compile used its cache. An answer with
`error` has the reason of a failure. Nothing else is written to stdout; the end of stdin ends the process.

PyTorch gets channels_last, fused Adam, uint8 images that are on the device and normalised there, the same kind of
augmentation (flip, shift, colour), vectorised over the batch, and the same losses and clipping at a constant rate. On a
GPU also cudnn.benchmark, TF32 for float32, autocast for bfloat16, and, with `compile`, torch.compile of all from the
images to the loss. At inference `eval()` and `inference_mode`.
"""

import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

from agegender_jax.cli.exits import guard
from benchmarks import torch_nets


def augment(images, config):
    """Flip, shift with repeated edges and recolour each image at random: uint8 [B, H, W, 3] -> float32."""
    count, side = images.shape[:2]

    def uniform(*shape):
        return torch.rand(count, *shape, device=images.device)

    if config["flip"]:
        images = torch.where(uniform(1, 1, 1) < 0.5, images.flip(2), images)
    if reach := round(config["shift"] * side):
        by = torch.randint(-reach, reach + 1, (2, count, 1), device=images.device)
        rows, columns = (torch.arange(side, device=images.device) + by).clamp(0, side - 1)
        example = torch.arange(count, device=images.device)[:, None, None]
        images = images[example, rows[:, :, None], columns[:, None, :]]
    images = images.float()
    if config["colour"]:
        change = 1 + config["colour"] * (2 * uniform(3, 1, 1, 1) - 1)
        grey = images.mean(-1, keepdim=True)
        images = grey + (images - grey) * change[:, 0]
        mean = images.mean((1, 2, 3), keepdim=True)
        images = ((mean + (images - mean) * change[:, 1]) * change[:, 2]).clamp(0, 255)
    return images


class Steps:
    """A net, a random batch on the device, and `step()`, which returns when the step has finished."""

    def __init__(self, spec):
        config = self.config = spec["config"]
        if spec["gpu"] and not torch.cuda.is_available():
            raise ValueError("PyTorch finds no GPU")
        self.device = torch.device("cuda" if spec["gpu"] else "cpu")
        self.training, self.half = spec["what"] == "train", config["model"]["dtype"] == "bfloat16"
        options = {name: config["model"][name] for name in ("name", "width", "stem", "gender_to_age", "age_hidden")}
        size = config["data"]["image_size"]
        count = config["batch_size"] if self.training else config["eval"]["batch_size"]
        net = torch_nets.build(**options, num_age_classes=spec["num_age_classes"], image_size=size)
        self.net = net.to(self.device, memory_format=torch.channels_last).train(self.training)
        self.mean, self.std = (torch.tensor(spec[name], device=self.device) for name in ("mean", "std"))
        self.images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, device=self.device)
        self.age = torch.randint(0, spec["num_age_classes"], (count,), device=self.device)
        self.gender = torch.randint(0, 2, (count,), device=self.device)
        self.optimizer = torch.optim.Adam(net.parameters(), config["optimizer"]["lr"], fused=True)
        self.forward = self.loss if self.training else self.probs
        if spec["compile"]:
            self.forward = torch.compile(self.forward)

    def logits(self, images):
        images = (images.float() / 255 - self.mean) / self.std
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            age, gender = self.net(images.permute(0, 3, 1, 2))  # [B, 3, H, W] that lies in memory as [B, H, W, 3]
        return age.float(), gender.float()

    def loss(self, images, age, gender):
        config = self.config["loss"]
        age_logits, gender_logits = self.logits(augment(images, self.config["augment"]))
        age_loss = F.cross_entropy(age_logits, age, label_smoothing=config["label_smoothing"])
        gender_loss = F.cross_entropy(gender_logits, gender, label_smoothing=config["label_smoothing"])
        return config["age_weight"] * age_loss + config["gender_weight"] * gender_loss

    def probs(self, images):
        return tuple(logits.softmax(-1) for logits in self.logits(images))

    def step(self):
        if self.training:
            self.optimizer.zero_grad()
            self.forward(self.images, self.age, self.gender).backward()
            if clip := self.config["optimizer"]["clip_norm"]:
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), clip)
            self.optimizer.step()
        else:
            with torch.inference_mode():
                self.forward(self.images)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, count):
        """Return seconds of each of `count` steps, and release cached GPU memory for the other framework."""
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - start)
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
            torch.cuda.empty_cache()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"seconds": seconds, "peak_memory_mb": peak / 2**20, "compile_cached": cached()}


def cached():
    """Return whether torch.compile used its cache."""
    utils = sys.modules.get("torch._dynamo.utils")  # loaded by torch.compile
    hits = (("inductor", "fxgraph_cache_hit"), ("aot_autograd", "autograd_cache_hit"))
    return utils is not None and any(utils.counters[group][name] for group, name in hits)


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what PyTorch prints
    try:
        spec = json.loads(sys.stdin.readline())
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        steps = Steps(spec)
        info = {
            "parameters": sum(parameter.numel() for parameter in steps.net.parameters()),
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if steps.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "compiled": spec["compile"],
        }
        print(json.dumps(info), file=answers)
        for line in sys.stdin:
            print(json.dumps(steps.run(int(line))), file=answers)
    except (ValueError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        print(json.dumps({"error": f"{type(error).__name__}: {error}".partition("\n")[0]}), file=answers)
        sys.exit(1)


if __name__ == "__main__":
    guard(main)
