# agegender on the CPU. At the root of the repository:
#   docker build --file docker/cpu.Dockerfile --tag agegender .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" agegender predict photo.jpg
FROM python:3.13-slim

# compiled nets are stored here; a volume on /cache makes later starts faster
ENV HOME=/cache XDG_CACHE_HOME=/cache
RUN mkdir -m 1777 /cache

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY agegender_jax agegender_jax
RUN pip install --no-cache-dir '.[photos]' && agegender --version

USER 1000:1000
WORKDIR /work
ENTRYPOINT ["agegender"]
CMD ["--help"]
