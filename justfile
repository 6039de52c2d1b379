# The door to everyday work; CI runs the same recipes. `just` without a recipe lists them.

[private]
default:
    @just --list --unsorted

# Build and run everything on this machine, with a demo account; Ctrl-C ends it.
up *ARGS:
    cargo rushes up {{ ARGS }}

# Start what the tests need and run them all, or those that ARGS (for cargo test) choose.
test *ARGS:
    cargo rushes test {{ ARGS }}

# Measure, each figure beside its baseline.
bench *ARGS:
    cargo rushes bench {{ ARGS }}

# The cache's protocol in seeded histories, and without each of its guards.
sim *ARGS:
    cargo rushes sim {{ ARGS }}

# Everything goes wrong on real processes, and all that clients were answered is checked.
torture *ARGS:
    cargo rushes torture {{ ARGS }}

# A process aborts at each crash point in turn, and the provider's bill is joined with the books.
crash-points *ARGS:
    cargo rushes crash-points {{ ARGS }}

# Everything is killed at random beside a provider that cuts connections, and its bill is joined with the books.
nemesis *ARGS:
    cargo rushes nemesis {{ ARGS }}

# Each mishap of an operator on real processes, and the page that shows what is seen of it.
walk *ARGS:
    cargo rushes walk {{ ARGS }}

# Bring the database of RUSHES_DATABASE_URL up to the newest migration.
migrate:
    cargo rushes migrate

# What the compiler, clippy and cargo-deny have to say; warnings are errors.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo deny check bans licenses sources

# Format everything; with --check only look.
fmt *ARGS:
    cargo fmt --all {{ ARGS }}

# Build the documentation of our crates; a broken link is an error.
doc *ARGS:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked {{ ARGS }}

# What has to pass before a change is merged.
ci:
    .ci/run
