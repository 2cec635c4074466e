# docker build -f deploy/docker/gateway.Dockerfile .
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/kottos && /opt/kottos/bin/python -m pip install --no-cache-dir pip==25.2
WORKDIR /source
COPY pyproject.toml deploy/docker/constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/kottos/bin/python -m pip install --group gateway --constraint constraints.txt
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/kottos/bin/python -m pip install --no-deps .

FROM python:${PYTHON}
RUN install -d -o 10001 -g 10001 /var/cache/kottos /var/lib/kottos
COPY --from=build /opt/kottos /opt/kottos
ENV PATH=/opt/kottos/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
CMD ["python", "-P", "-m", "gateway"]
