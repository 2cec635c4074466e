# Worker, host model cache and steward: all that reads weights. docker build -f deploy/docker/worker.Dockerfile .
# For a GPU: --build-arg TORCH_INDEX= (empty). Without the demo models: --build-arg DEMO=false.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG DEMO=true
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/kottos && /opt/kottos/bin/python -m pip install --no-cache-dir pip==25.2
WORKDIR /source
COPY pyproject.toml deploy/docker/constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/kottos/bin/python -m pip install torch --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} && \
    /opt/kottos/bin/python -m pip install --group worker --constraint constraints.txt && \
    if [ "${DEMO}" = true ]; then \
        python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["demo"], sep="\n")' > demo.txt && \
        /opt/kottos/bin/python -m pip install --no-deps --requirement demo.txt; \
    fi
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/kottos/bin/python -m pip install --no-deps .

FROM python:${PYTHON}
RUN install -d -o 10001 -g 10001 /var/cache/kottos /var/lib/kottos /run/kottos
COPY --from=build /opt/kottos /opt/kottos
ENV PATH=/opt/kottos/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
CMD ["python", "-P", "-m", "gpu_worker"]
