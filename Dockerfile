# AAM as an image: docs/deploy.md explains how to run it with Docker, Podman and Kubernetes.
#
#   docker build -t aam .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 20 -p 127.0.0.1:5000:5000 \
#     -v "$PWD/intents:/etc/aam/intents:ro" -v "$PWD/policy:/etc/aam/policy:ro" -v aam-data:/var/lib/aam aam
#
# The last stage has no shell and no package manager. --build-arg RUNTIME=debian:bookworm-slim makes an image with a shell, if
# its certificate authorities (the package ca-certificates) are mounted or added.

ARG RUNTIME=gcr.io/distroless/cc-debian12

FROM rust:1.95-slim-bookworm AS build
# The C compiler builds the bundled SQLite. Its version is the one of the image's Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The commit that aam version prints, because .git is not part of the build: --build-arg AAM_COMMIT=$(git rev-parse --short=12 HEAD)
ARG AAM_COMMIT=
# The folders are for the last stage, which has no program that could create them.
RUN cargo install --locked --path . --root /usr/local \
    && mkdir -p /image/etc/aam/intents /image/etc/aam/policy /image/var/lib/aam

# hadolint ignore=DL3006
FROM ${RUNTIME}
COPY --from=build /usr/local/bin/aam /usr/local/bin/aam
COPY --from=build /image/etc/aam /etc/aam
COPY --from=build --chown=10001:10001 /image/var/lib/aam /var/lib/aam
# A number, so that Kubernetes can check that it is not root.
USER 10001:10001
WORKDIR /var/lib/aam
# Intents and policy are mounted read-only; the registry needs a volume that survives the container.
# The API listens on every address of the container; each call but the health checks needs a token.
ENV AAM_INTENTS=/etc/aam/intents \
    AAM_POLICY=/etc/aam/policy/policy.yaml \
    AAM_REGISTRY=/var/lib/aam/aam.db \
    AAM_BIND=0.0.0.0 \
    AAM_LOG_FORMAT=json
VOLUME ["/var/lib/aam"]
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/usr/local/bin/aam", "health"]
ENTRYPOINT ["/usr/local/bin/aam"]
CMD ["serve"]
