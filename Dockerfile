# The one binary of AAM.
#
#   docker build -t aam .
#   docker run -p 5000:5000 -v "$PWD/intents:/etc/aam/intents:ro" -v "$PWD/policy:/etc/aam/policy:ro" -v aam-data:/var/lib/aam aam

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin aam && cp target/release/aam /usr/local/bin/aam

FROM debian:bookworm-slim
# The certificate authorities of TLS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/aam --create-home aam \
    && mkdir -p /etc/aam/intents /etc/aam/policy
COPY --from=build /usr/local/bin/aam /usr/local/bin/aam
USER 10001:10001
WORKDIR /var/lib/aam
# Intents and policy are mounted read-only; the registry needs a volume that survives the container.
# The API listens on every address of the container; each call but the health checks needs a token.
ENV AAM_INTENTS=/etc/aam/intents \
    AAM_POLICY=/etc/aam/policy/policy.yaml \
    AAM_REGISTRY=/var/lib/aam/aam.db \
    AAM_BIND=0.0.0.0 \
    AAM_LOG_FORMAT=json
VOLUME ["/etc/aam/intents", "/etc/aam/policy", "/var/lib/aam"]
EXPOSE 5000
ENTRYPOINT ["/usr/local/bin/aam"]
CMD ["serve", "--port", "5000"]
