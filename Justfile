# Every task of this project. `just` alone lists them. Works on Debian 12 and 13 as root, with a Rust toolchain.

set shell := ["bash", "-euo", "pipefail", "-c"]

export SOLOSTACK_CACHE := env("SOLOSTACK_CACHE", env("XDG_CACHE_HOME", home_directory() / ".cache") / "solostack")
target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
state := env("SOLOSTACK_STATE", "/var/lib/solostack")

# List the tasks
[private]
default:
    @just --list --unsorted

# Install what the other tasks need (Debian packages, cargo-nextest, cargo-deny, the openstack client, slapd for tests), listing it first
setup:
    @tests/setup/packages
    @tests/setup/tools
    @tests/setup/slapd

# Build the program and start the cloud in the foreground; says how to reach it. ARGS go to `solostack serve`
up *ARGS: setup
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --locked
    echo "up: starting with state in {{ state }} (Ctrl-C stops the program; servers go on until \`just down\`)"
    # `ready <url>` is the only line that the program prints to standard output.
    "{{ target }}/release/solostack" serve --state "{{ state }}" {{ ARGS }} | while read -r word url; do
      echo "$word $url"
      [ "$word" = ready ] || continue
      echo
      echo "    source {{ state }}/admin-openrc      # or: export OS_CLIENT_CONFIG_FILE={{ state }}/clouds.yaml OS_CLOUD=solostack"
      echo "    export PATH=$(dirname "$(tests/setup/tools openstack)"):\$PATH"
      echo "    openstack server list"
    done

# Stop every server and remove all that the cloud made on this host (namespaces, rules, taps); data stays
down:
    "{{ target }}/release/solostack" down --state "{{ state }}"

# What this host offers and lacks
doctor:
    @cargo run --quiet --release --locked -- doctor --state "{{ state }}"

# Everything that .ci/run checks
test: setup
    @tests/setup/all

# The checks before a commit: formatting, lints, boundaries
check: fmt boundaries clippy

# Formatting
fmt:
    cargo fmt --all --check

# Lints, warnings are errors
clippy:
    cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

# The arrows between crates; lock files without download addresses
boundaries:
    @tests/setup/boundaries

# Licences, banned crates and sources of all dependencies
deny:
    cargo deny --log-level error check licenses bans sources

# Unit and API tests: no root, no guests, no packages. FILTER is nextest's
test-api *FILTER:
    cargo nextest run --workspace --locked {{ FILTER }}

# kill -9 at random moments, restart, nothing lost and nothing left. CYCLES (100) and SEED choose how long and which
test-crash CYCLES="100" SEED="":
    SOLOSTACK_CRASH_CYCLES={{ CYCLES }} SOLOSTACK_CRASH_SEED={{ SEED }} \
      cargo nextest run --locked --profile slow --workspace --test crash -E 'package(solostack)' --success-output immediate

# The guest firmware: its parsers on this machine, with configurations of real distributions and hostile ones
test-firmware:
    cargo test --manifest-path firmware/Cargo.toml --locked
    cargo test --manifest-path firmware/properties/Cargo.toml --locked

# The guest firmware in guests under QEMU: stock disks to their login prompts, and what it hands over
test-firmware-boots: (guests "tiny")
    firmware/tests/boot.py

# The test guests alone, booted without a cloud: console, ssh, config drive, power button
test-guests: (guests "tiny")
    tests/guests/boot.py tiny
    tests/guests/boot.py tiny --firmware uefi --memory 256

# A real guest in a VM process with QEMU: disks and nics come and go, it is suspended and resumed, rebooted, shut down
test-guests-qemu: (guests "tiny")
    cargo build --locked --bin solostack
    tests/guests/qemu.py tiny --program {{ target }}/debug/solostack
    tests/guests/qemu.py tiny --program {{ target }}/debug/solostack --firmware uefi --memory 384 --times 2

# The real openstack client and a real guest against the real program, from image create to delete
test-clients: (guests "tiny")
    cargo nextest run --locked --profile slow --workspace --test clients -E 'package(solostack) and not test(kvm_)' --success-output immediate

# Every page of the dashboard in headless Chromium: accessible, harmless, light (fake driver, hostile names)
test-browser:
    cargo build --locked --bin solostack
    "$(dirname "$(tests/setup/tools openstack)")/python" tests/browser/pages.py {{ target }}/debug/solostack

# A user's first afternoon in the dashboard, with a real guest, with script and without
test-journey: (guests "tiny")
    cargo build --locked --bin solostack
    "$(dirname "$(tests/setup/tools openstack)")/python" tests/browser/journey.py {{ target }}/debug/solostack

# A picture of every page in both themes, into FOLDER (not committed)
screenshots FOLDER="target/screenshots":
    cargo build --locked --bin solostack
    "$(dirname "$(tests/setup/tools openstack)")/python" tests/browser/pages.py {{ target }}/debug/solostack --screens {{ FOLDER }}

# The server's time for each page with 1,000 servers (a release build)
bench-pages:
    cargo build --release --locked --bin solostack
    "$(dirname "$(tests/setup/tools openstack)")/python" tests/browser/pages.py {{ target }}/release/solostack --speed

# Tempest against the built program: identity, image, network, compute ..., or `scenario --ssh` with real guests; the figures go into docs/CONFORMANCE.md
test-tempest *SUITES="identity":
    cargo build --locked --bin solostack
    "$(tests/setup/tools tempest)" tests/conformance/run.py {{ target }}/debug/solostack {{ SUITES }}

# Placement's own functional tests against the built program without its provider; the figures go into docs/CONFORMANCE.md
test-placement *ARGS:
    cargo build --locked --bin solostack
    "$(tests/setup/tools placement)" tests/conformance/run_placement.py {{ target }}/debug/solostack {{ ARGS }}

# Servers on the built-in hypervisor, in an emulated machine with a true KVM (tests/guests/l1), driven by the real client
test-kvm: (guests "tiny")
    cargo nextest run --locked --profile slow --workspace --test clients -E 'package(solostack) and test(kvm_)' --success-output immediate

# Garbage to every register and queue of the built-in machine for MINUTES; says the seed, SOLOSTACK_FUZZ_SEED repeats it
fuzz-machine MINUTES="10":
    SOLOSTACK_FUZZ_SECONDS=$(( {{ MINUTES }} * 60 )) cargo test --locked -p hypervisor --lib kvm::tests::fuzz -- --nocapture
    SOLOSTACK_MACHINE_CYCLES=500 cargo test --locked -p hypervisor --lib kvm::tests::cycles -- --nocapture

# Speed and memory against the budgets of docs/ARCHITECTURE.md; `just bench identity` only Identity's, in more detail
bench *ARGS:
    cargo bench --locked --package solostack --bench bench -- {{ ARGS }}

# Boots of the built-in machine in an L1 machine that counts instructions, beside QEMU's, against their bars
bench-boot:
    tests/bench/boot.sh

# Build the test guests (tiny, debian) if their inputs changed; `just guests debian` takes minutes
guests *WHICH="tiny":
    @tests/guests/guests.py build {{ WHICH }}

# The appliance: one bootable disk image, into target/image (raw.zst for dd, qcow2, checksums, bill of materials). ARGS go to image/build.py
image *ARGS: setup
    cargo build --release --locked --bin solostack
    image/build.py --program "{{ target }}/release/solostack" {{ ARGS }}

# The built image on emulated machines: first boot, the stock client, restart, power cuts, BIOS, no DHCP. `--only` chooses stories
test-appliance IMAGE *ARGS: (guests "tiny")
    "$(dirname "$(tests/setup/tools openstack)")/python" tests/appliance/appliance.py {{ IMAGE }} --program "{{ target }}/release/solostack" {{ ARGS }}

# Write golden files anew; review them as diffs
golden:
    SOLOSTACK_GOLDEN=1 cargo nextest run --workspace --locked
    git diff --stat
