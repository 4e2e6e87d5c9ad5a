# Trivet's image: one executable with the Swift standard library inside, and the C libraries that it loads.
# The classic builder and BuildKit both build it:  docker build -t trivet .

FROM swift:6.3-bookworm AS build
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates libargon2-dev libhiredis-dev libnghttp2-dev libpq-dev libssl-dev >/dev/null \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The manifest alone first: dependencies are fetched again only when it changes.
COPY Package.swift ./
RUN swift package resolve
# The manifest names the test targets, so their folders must be there; they are not compiled.
COPY Tests ./Tests
COPY Sources ./Sources
RUN swift build -c release --static-swift-stdlib --product trivet \
    && strip .build/release/trivet

FROM debian:bookworm-slim
# 10 MB. Copying only the shared objects that are loaded would save 2 MB of it, and hide them from vulnerability scanners.
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        libargon2-1 libhiredis0.14 libnghttp2-14 libpq5 libssl3 >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/* /usr/share/doc/*
# Certificate authorities, for webhooks over https and for rediss:// and TLS to PostgreSQL; the package would bring the openssl tool along.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /build/.build/release/trivet /usr/local/bin/
USER 10001:10001
# api 8080; balancer 8443 and 8080 (redirects to https). docker-compose.yml sets LISTEN to these.
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=3s --timeout=3s --start-period=30s --retries=3 CMD ["trivet", "health"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="trivet" \
    org.opencontainers.image.description="API node, worker and TLS balancer in one executable" \
    org.opencontainers.image.version="${VERSION}"
ENTRYPOINT ["trivet"]
