# The image of celeryscope, and with --target demo that of the application that it is shown on.
#
#   docker build -t celeryscope .
#   docker run -e CELERYSCOPE_BROKER_URL=redis://broker:6379/0 -p 9808:9808 celeryscope
#
# Behind a proxy with a certificate authority of its own: docker build --secret id=ca,src=/path/ca.pem .
# Another index for pip: --secret id=pip,src=/path/pip.conf. Neither is left in the image.

ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build

WORKDIR /src
COPY deploy/image/requirements.txt deploy/image/build-requirements.txt deploy/image/install.sh deploy/image/

# Two environments: one that builds, and one that is shipped, which has no pip in it.
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip \
    python -m venv --without-pip /opt/build \
    && python -m venv --without-pip /opt/celeryscope \
    && sh deploy/image/install.sh /opt/build -r deploy/image/build-requirements.txt \
    && sh deploy/image/install.sh /opt/celeryscope -r deploy/image/requirements.txt

# What is not named in .dockerignore is not there.
COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && python -m pip --python /opt/celeryscope/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl


FROM ${PYTHON_IMAGE} AS base

COPY --from=build /opt/celeryscope /opt/celeryscope

# The root file system may be read-only: nothing is written, compiled modules are there already.
ENV PATH=/opt/celeryscope/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /


# Its programs are modules: docker run celeryscope-demo celery --app celeryscope_demo.app worker ...
FROM base AS demo

LABEL org.opencontainers.image.title="celeryscope-demo" \
      org.opencontainers.image.description="The application on which celeryscope is shown"
ENTRYPOINT ["python", "-m"]
CMD ["celery", "--app", "celeryscope_demo.app", "worker", "--help"]


# The last stage is what `docker build` makes.
FROM base AS exporter

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="celeryscope" \
      org.opencontainers.image.description="A Prometheus exporter that tells the truth about a Celery cluster" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV CELERYSCOPE_LISTEN_ADDRESS=0.0.0.0:9808
EXPOSE 9808
# It asks the address of the variable or the configuration file, over TLS where that is what answers.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-m", "celeryscope.healthcheck"]
ENTRYPOINT ["celeryscope"]
CMD ["run"]
