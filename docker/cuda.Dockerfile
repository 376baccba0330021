# agegender on NVIDIA GPUs; the host needs the driver and the container toolkit. At the root of the repository:
#   docker build --file docker/cuda.Dockerfile --tag agegender:cuda .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" agegender:cuda predict photo.jpg
FROM python:3.13-slim

# compiled nets are stored here; a volume on /cache makes later starts faster
ENV HOME=/cache XDG_CACHE_HOME=/cache NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN mkdir -m 1777 /cache

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY agegender_jax agegender_jax
RUN pip install --no-cache-dir '.[photos,cuda12]' && agegender --version

USER 1000:1000
WORKDIR /work
ENTRYPOINT ["agegender"]
CMD ["--help"]
