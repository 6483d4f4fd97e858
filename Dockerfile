# The control plane as a container, with the agents whose installers it hands out:
#
#   docker build -t planasonix .
#
# Agents that lie in the folder `agents`, as `<platform>-<architecture>/planasonix-agent`, go in as they are. Without
# that folder, the agent for the image's own platform is built, and runs wherever glibc is as new as it needs.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Sources of another checkout may be older than what the cache holds of them, and Cargo goes by time.
RUN --mount=type=cache,id=planasonix-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=planasonix-target,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --locked --release -p planasonix --bin planasonix \
    && install -D target/release/planasonix /image/planasonix \
    && if [ -d agents ]; then \
        cp -R agents /image/agents && chmod -R a+rX /image/agents; \
    else \
        cargo build --locked --profile agent -p planasonix-agent \
        && install -D target/agent/planasonix-agent "/image/agents/linux-$(uname -m)/planasonix-agent"; \
    fi

# The C library, CA certificates, and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="planasonix" \
    org.opencontainers.image.description="The control plane of Planasonix's pipeline agents" \
    org.opencontainers.image.licenses="LicenseRef-Planasonix"
# `serve` finds the folder `agents` beside its own program.
COPY --from=build /image /opt/planasonix
ENV PATH=/opt/planasonix:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A number, so that an orchestrator can see that it is not root. It writes to /tmp and nowhere else.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 CMD ["planasonix", "healthcheck"]
ENTRYPOINT ["planasonix"]
CMD ["serve"]
