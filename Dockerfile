# The image of the operator: the program, and the few libraries that it needs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin banyan && cp target/release/banyan /banyan

# glibc, CA certificates, time zones, the user 65532; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /banyan /usr/local/bin/banyan
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/banyan"]
